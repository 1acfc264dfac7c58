"""The tags that a delete by digest takes along, each with the event that ends its life (H100).

The registry unlinks every tag of a manifest that goes.  Those that a rule holds are known by their records; of the
others the ledger keeps what they were last pushed with, and the registry says whether they are still there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from immuproxy.edge.caller import Caller
from immuproxy.edge.upstream import Found, Upstream, UpstreamUnavailableError
from immuproxy.ledger.going import GoneTag, MovedTag, OverwriteArmedError
from immuproxy.ledger.ids import new_event_id
from immuproxy.ledger.model import Action, Event, Outcome
from immuproxy.ledger.register import Register
from immuproxy.oci.errors import unavailable
from immuproxy.rules.model import Rule, RuleSet

LOOKED_AT_ONCE = 8
"""Tags that the upstream is asked about at a time."""


CUT_OFF = "the tag was deleted while this push was under way"

TRIES = 5
"""How often the outcome is told anew where another overwrite is armed each time."""


class Taken:
    """Ends deletes that went through."""

    def __init__(self, rules: Callable[[], RuleSet], register: Register, upstream: Upstream) -> None:
        """``rules`` gives the rule set in force."""
        self._rules = rules
        self._register = register
        self._upstream = upstream

    async def end(self, mark: str, deleted: Event, caller: Caller, tags: Sequence[GoneTag]) -> None:
        """The outcome of a delete that went through: ``tags`` are those with a record that went with it, ``mark`` is
        that of the delete, and ``deleted`` its event, which tells of its own tag itself.
        """
        gone, moved = await self._told(deleted, mark.split(), caller, tags)
        for _ in range(TRIES):
            with suppress(OverwriteArmedError):
                cut_off = await self._cut_off(deleted.repository, gone)
                await self._register.end_delete(deleted.repository, mark, deleted, cut_off, moved)
                return
        raise unavailable("the tag is overwritten all the time while it is deleted; the outcome is told later")

    async def _cut_off(self, repository: str, tags: Sequence[GoneTag]) -> list[GoneTag]:
        """With the event that ends the overwrite which is armed on each: nobody will ever know its outcome (H101)."""
        found = await self._register.records(repository, [tag.name for tag in tags]) if tags else []
        armed = [record.claim.event if record.claim else "" for record in found]
        drafts = [await self._register.intent(repository, event) if event else None for event in armed]
        return [
            replace(tag, cut_off=replace(draft, outcome=Outcome.UNKNOWN, reason=CUT_OFF) if draft else None)
            for tag, draft in zip(tags, drafts, strict=True)
        ]

    async def _told(
        self, deleted: Event, digests: Sequence[str], caller: Caller, tags: Sequence[GoneTag]
    ) -> tuple[Sequence[GoneTag], Sequence[MovedTag]]:
        if deleted.action is Action.DELETE_TAG:
            return tags, [MovedTag(deleted.tag)]
        if deleted.action is Action.DELETE_BLOB:
            return tags, ()
        gone = [replace(tag, event=self._ending(deleted, tag.name, tag.digest)) for tag in tags]
        return gone, await self._moved(deleted, digests, caller, gone)

    async def _moved(
        self, deleted: Event, digests: Sequence[str], caller: Caller, besides: Sequence[GoneTag]
    ) -> list[MovedTag]:
        known = {tag.name for tag in besides}
        found = [
            MovedTag(tag, digest, self._ending(deleted, tag, digest))
            for digest in digests
            for tag in await self._register.holders.moving(deleted.repository, digest)
            if tag not in known
        ]
        stand: list[bool] = []
        for some in _by_some(found):
            stand += await asyncio.gather(*(self._stands(deleted.repository, tag.name, caller) for tag in some))
        return [tag for tag, stands in zip(found, stand, strict=True) if not stands]

    async def _stands(self, repository: str, tag: str, caller: Caller) -> bool:
        """Whether it was moved past the proxies; where nobody can say, it held what has gone."""
        try:
            return isinstance(await self._upstream.probe(repository, tag, caller), Found)
        except UpstreamUnavailableError:
            return False

    def _ending(self, deleted: Event, tag: str, digest: str) -> Event:
        rule: Rule = self._rules().match(deleted.repository, tag)
        return replace(
            deleted,
            id=new_event_id(),
            action=Action.DELETE_TAG,
            outcome=Outcome.DELETED,
            tag=tag,
            digest=digest,
            previous_digest="",
            rule=rule.name,
            rule_line=rule.line,
            reason=f"it went with its manifest, which was deleted by digest (event {deleted.id})",
        )


def _by_some(tags: Sequence[MovedTag]) -> Iterator[Sequence[MovedTag]]:
    for at in range(0, len(tags), LOOKED_AT_ONCE):
        yield tags[at : at + LOOKED_AT_ONCE]
