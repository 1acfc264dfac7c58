"""Repositories of which every protected tag has its record (H71, H77): before a delete, and instead of a look at the
registry before each first push where nobody else writes to it (`upstream.exclusive`).

Only what this process has seen itself counts: the ledger may be an older copy that was put back before it started
(H68).  What it has seen holds for the rules by which the tags were protected, and for as long as nothing was lost; the
step that relies on it compares that (``claim.lua``, ``delete_begin.lua``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from immuproxy.edge import listing
from immuproxy.edge.caller import Caller
from immuproxy.edge.listing import ListingRefusedError
from immuproxy.edge.recovery import Recovery
from immuproxy.edge.upstream import Found, Upstream, UpstreamUnavailableError
from immuproxy.ledger.going import Adoption
from immuproxy.ledger.model import TagRecord
from immuproxy.ledger.register import Register
from immuproxy.oci import names
from immuproxy.oci.errors import OciError
from immuproxy.rules.model import RuleSet
from immuproxy.store import cancelling
from immuproxy.store.redis import LedgerUnavailableError

log = structlog.get_logger("immuproxy.edge")

READ_AT_ONCE = 500
"""Records read in one round trip."""

AT_ONCE = 4
"""Repositories that are looked through behind pushes; others are, behind the next push to them."""

PAUSE = 60.0
"""Seconds until a repository is looked through again that could not be."""


def _nobody() -> None:
    pass


class UnseenError(Exception):
    """Why it is unknown what some tag of the repository needs."""


class Adoptions:
    """What this process knows of whole repositories."""

    def __init__(
        self,
        rules: Callable[[], RuleSet],
        register: Register,
        upstream: Upstream,
        recovery: Recovery,
        *,
        exclusive: bool = False,
        told: Callable[[], None] = _nobody,
    ) -> None:
        """``exclusive``: the operator says that nobody else writes to the upstream; ``told`` of what says otherwise."""
        self._rules = rules
        self._register = register
        self._upstream = upstream
        self._recovery = recovery
        self._exclusive = exclusive
        self._known: dict[str, tuple[str, Adoption]] = {}
        """Repository -> the rules file by which all its tags were adopted, and what the ledger was then."""
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._not_before: dict[str, float] = {}
        self._told = told

    # --- before a delete

    async def all(self, repository: str, caller: Caller) -> Adoption:
        """Every protected tag of the repository gets its record, and its pins, unless that was seen to.

        Returns what the step that relies on it is to be given.  Raises `UnseenError`, `OciError` 5xx,
        `UpstreamUnavailableError` and `LedgerUnavailableError`.
        """
        known = self.of(repository)
        if known is not None:
            return known
        rules, adoption = self._rules(), await self._register.begin_adoption(repository)
        tags = [
            tag
            for tag in await self._listed(repository, caller)
            if names.is_tag(tag) and rules.protects(repository, tag)
        ]
        for at in range(0, len(tags), READ_AT_ONCE):
            await self._adopt(repository, tags[at : at + READ_AT_ONCE], caller)
        self._known[repository] = rules.digest, adoption
        return adoption

    def of(self, repository: str) -> Adoption | None:
        """What `all` would say without a question to anybody."""
        known = self._known.get(repository)
        return known[1] if known and known[0] == self._rules().digest else None

    def forget(self, repository: str) -> None:
        """The ledger may have lost something since."""
        self._known.pop(repository, None)

    async def record(self, repository: str, tag: str, caller: Caller) -> TagRecord:
        """The record of a protected tag, adopted now if the ledger did not have it."""
        found = await self._register.read(repository, tag)
        if found.committed is not None:
            return found
        seen = await self._upstream.probe(repository, tag, caller)
        if isinstance(seen, Found):
            await self._recovery.settle_as(found, seen, caller, self._rules().match(repository, tag))
        return await self._register.read(repository, tag)

    async def _listed(self, repository: str, caller: Caller) -> list[str]:
        try:
            return await listing.tags(self._upstream, repository, caller)
        except ListingRefusedError as refused:
            message = (
                "the proxy must see all tags before it lets anything be deleted, and this client may not list them"
            )
            raise UnseenError(message) from refused

    async def _adopt(self, repository: str, tags: Sequence[str], caller: Caller) -> None:
        """Nothing may go where it is unknown what a tag needs (H94)."""
        for found in await self._register.records(repository, tags):
            if found.committed is not None:
                continue
            try:
                await self.record(repository, found.tag, caller)
            except OciError as error:
                if error.status >= 500:
                    raise
                message = f"nothing here can be, because of {repository}:{found.tag}: {error.message}"
                raise UnseenError(message) from error

    # --- instead of the look before a first push

    def instead_of_probe(self, repository: str) -> Adoption | None:
        """What lets a first push go without a look at the upstream; None where there has to be one."""
        return self.of(repository) if self._exclusive else None

    def begin(self, repository: str, caller: Caller) -> None:
        """Look through the repository behind a push, with the rights of its client; does not wait."""
        wanted = self._exclusive and repository not in self._under_way
        waits = self._not_before.get(repository, 0.0) > asyncio.get_running_loop().time()
        if not wanted or waits or len(self._under_way) >= AT_ONCE:
            return
        task = asyncio.create_task(self._look_through(repository, caller))
        self._under_way[repository] = task
        task.add_done_callback(lambda _: self._under_way.pop(repository, None))

    async def adopted(self, repository: str, tag: str, digest: str) -> None:
        """The upstream showed a tag that the ledger did not know; before the repository was looked through that says
        nothing.
        """
        if self.instead_of_probe(repository) is not None:
            await self.foreign(repository, tag, digest)

    async def foreign(self, repository: str, tag: str, digest: str) -> None:
        """The upstream shows something under a tag that no push has put there which the ledger knows (H138).

        Every process has to look through the repository anew.  Raises `LedgerUnavailableError`.
        """
        if not self._exclusive:
            return
        log.error(
            "upstream.exclusive is wrong: somebody else writes to the registry; take it out of the settings. All tags "
            "of this repository are looked at once more, and what is written there after that may be overwritten",
            repository=repository,
            tag=tag,
            digest=digest,
        )
        self._told()
        self.forget(repository)
        await self._register.forget_adoption(repository)

    async def ended(self) -> None:
        """Give up what goes on behind pushes."""
        await cancelling.end(set(self._under_way.values()))

    async def _look_through(self, repository: str, caller: Caller) -> None:
        with suppress(LedgerUnavailableError, UpstreamUnavailableError, OciError, UnseenError):
            await self.all(repository, caller)
            return
        self._not_before[repository] = asyncio.get_running_loop().time() + PAUSE
