"""What a push from before has written under a tag that was deleted since: told, and removed where that is safe (H111).

Readers get 404 all the while, and pushes of other content go ahead.  The upstream's tag is deleted by its name, and
only where no other tag that the ledger knows needs the content, as some registries take the whole manifest with the
tag.  The tag's claim is held meanwhile, so that no push comes in between.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from immuproxy.drift.apart import apart
from immuproxy.drift.polite_client import shown
from immuproxy.edge import headers, record
from immuproxy.edge.answers import Answer
from immuproxy.edge.caller import Caller
from immuproxy.edge.push.attempt import Limits
from immuproxy.edge.refusals import first_message
from immuproxy.edge.upstream import Upstream, UpstreamUnavailableError
from immuproxy.ledger.content import Content
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.late import LateWrite
from immuproxy.ledger.model import Action, Outcome, Step, TagRecord
from immuproxy.ledger.register import Register
from immuproxy.oci.routes import RouteKind, build_path
from immuproxy.rules.model import RuleSet
from immuproxy.store import steady

log = structlog.get_logger("immuproxy.sweep")

LEFT_STANDING_MS = 24 * 3600 * 1000
"""What cannot be taken away is looked at, and told, once a day."""

REMOVED = frozenset({200, 202, 204, 404})
"""What registries answer to the delete of a tag that is gone now."""


class Late:
    """Looks at what may have landed late, once it can land no more."""

    def __init__(
        self,
        rules: Callable[[], RuleSet],
        register: Register,
        epoch: Epoch,
        *,
        upstream: Upstream,
        limits: Limits,
        caller: Caller,
    ) -> None:
        """``caller`` is who the proxy is at the upstream."""
        self._rules = rules
        self._register = register
        self._epoch = epoch
        self._upstream = upstream
        self._limits = limits
        self._caller = caller

    async def once(self) -> None:
        """One pass over what is due; raises `LedgerUnavailableError`."""
        repositories = await self._register.with_late_writes(await self._register.repositories())
        await self._epoch.beat()
        if self._epoch.unsure():
            await self._register.late.forget_all(repositories)
            return
        for repository in repositories:
            ages = await self._register.ages(repository)
            for write in await self._register.late.take(repository, ages, quarantine_ms=self._limits.quarantine_ms):
                await apart(self._try(write), self._register.now_ms, repository=repository, tag=write.tag)

    async def _try(self, write: LateWrite) -> None:
        try:
            await self._look(write)
        except UpstreamUnavailableError as error:
            log.warning("left open: the upstream does not tell", repository=write.repository, reason=str(error))

    async def _look(self, write: LateWrite) -> None:
        found = await self._register.read(write.repository, write.tag)
        ruled = self._rules().protects(write.repository, write.tag)
        if found.committed or not ruled or await self._shown(write) != write.digest:
            await self._register.late.forget(write)
        elif not found.claim:  # else a push of the tag is under way
            await self._told(write, found)

    async def _shown(self, write: LateWrite) -> str:
        return await shown(self._upstream, write.repository, write.tag, self._caller)

    async def _told(self, write: LateWrite, found: TagRecord) -> None:
        token, began = record.new_token(), steady.now()
        if not await self._claims(write, found, token):
            return
        reason = "a push from before the tag was deleted has arrived since; the tag stays deleted"
        await self._tell(write, Action.DRIFT, Outcome.FOUND, reason)
        # Where it stays unknown what became of the delete, the claim stays for as long as that may still land (H119).
        failure = await self._needed(write)
        if not failure and steady.now() - began > self._limits.put:
            log.warning("left open: the proxy stood still for too long", repository=write.repository, tag=write.tag)
            await self._register.release(write.repository, write.tag, token=token, event=None)
            return
        failure = failure or await self._remove(write)
        await self._register.release(write.repository, write.tag, token=token, event=None)
        if failure:
            await self._tell(write, Action.REPAIR, Outcome.FAILED, f"the upstream goes on showing it: {failure}")
            await self._register.late.look_again(write, after_ms=LEFT_STANDING_MS)
        else:
            await self._tell(write, Action.REPAIR, Outcome.HEALED, "the upstream's tag was removed again")
            await self._register.late.forget(write)

    async def _claims(self, write: LateWrite, found: TagRecord, token: str) -> bool:
        reply = await self._register.claim(
            write.repository,
            write.tag,
            Content(digest=write.digest, needs=frozenset()),
            token=token,
            lease_ms=self._limits.quarantine_ms,
            over_generation=found.generation,
        )
        return reply.step is Step.CLAIMED

    async def _needed(self, write: LateWrite) -> str:
        """Why the content may not go, or nothing; our own claim pins it once."""
        others = [
            tag for tag in await self._register.holders.moving(write.repository, write.digest) if tag != write.tag
        ]
        if others or await self._register.pin_count(write.repository, write.digest) > 1:
            return "other tags need this content, and some registries delete it with the tag"
        return ""

    async def _remove(self, write: LateWrite) -> str:
        """Delete the upstream's tag; what went wrong, or nothing."""
        target = build_path(RouteKind.MANIFEST, write.repository, write.tag)
        answer: Answer = await self._upstream.exchange("DELETE", target, headers.without(self._caller.headers, ()))
        if answer.status not in REMOVED:
            said = f"it answered {answer.status} to the delete of the tag: {first_message(answer)}"
            return f"{said}; a delete by digest through the proxy takes it away"
        return "" if await self._shown(write) != write.digest else "it said that the tag is deleted, and it is not"

    async def _tell(self, write: LateWrite, action: Action, outcome: Outcome, reason: str) -> None:
        told = record.own(action, outcome, write.repository, tag=write.tag, digest=write.digest, reason=reason)
        await self._register.record(told)
