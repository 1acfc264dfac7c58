"""All tags of one repository, kept in memory and brought up to date before each use.

A page of a repository sorts and filters all of its tags, and they may be tens of thousands.  So they are read once,
from the index and from the register, and from then on only what changed since.  Memory is bounded: the repositories
that were looked at longest ago are forgotten, and of one with more than `MOST_TAGS` the others are left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from immuproxy.audit.audit import MOST_TAGS, Audit
from immuproxy.audit.values import TagFacts
from immuproxy.audit.views import TagView
from immuproxy.ledger import keys
from immuproxy.ledger.redis import Store

_NAMES_A_CALL = 5_000
_RECORDS_A_CALL = 250
_MARK = "mark"

_T = TypeVar("_T")


@dataclass(slots=True)
class Roster:
    """The tags of a repository as of the last look.  ``version`` grows with each change of ``tags``.

    ``complete`` is false when there were more than `MOST_TAGS`.  ``newest`` and ``newest_held``: the time of the last
    event, and of the last commit, that it knows of.  ``kept`` is for what callers work out from it and want to find
    again at the next look.
    """

    repository: str
    tags: dict[str, TagFacts] = field(default_factory=dict)
    version: int = 0
    complete: bool = True
    newest: int = 0
    newest_held: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    kept: dict[str, Any] = field(default_factory=dict, repr=False)

    def update(self, changed: Mapping[str, TagFacts]) -> None:
        """Take in what changed."""
        new = {name: facts for name, facts in changed.items() if self.tags.get(name) != facts}
        if new:
            self.tags.update(new)
            self.version += 1

    def counts(self) -> tuple[int, int]:
        """How many tags have an event, and how many are held."""
        version, found = self.kept.get("counts", (-1, (0, 0)))
        if version != self.version:
            every = self.tags.values()
            found = sum(facts.last > 0 for facts in every), sum(facts.held > 0 for facts in every)
            self.kept["counts"] = self.version, found
        return cast("tuple[int, int]", found)

    def clear(self) -> None:
        """Forget everything, to be read anew."""
        self.tags, self.newest, self.newest_held, self.complete = {}, 0, 0, True
        self.version += 1


class Rosters:
    """The rosters of the repositories that were looked at last."""

    def __init__(self, store: Store, audit: Audit) -> None:
        """``audit`` is the index of what ``store`` records."""
        self._store = store
        self._audit = audit
        self._kept: dict[str, Roster] = {}

    async def of(self, repository: str) -> Roster:
        """The tags of a repository as of now, those that events name and those that are held.

        Do not change them; they are those of everybody.  Raises `LedgerUnavailableError` and `IndexDamagedError`.
        """
        roster = self._kept.pop(repository, None) or Roster(repository)
        self._kept[repository] = roster
        async with roster.lock:
            if not (roster.tags and await self._follow(roster)):
                await self._read(roster)
        self._forget_some()
        return roster

    def _forget_some(self) -> None:
        count = sum(len(roster.tags) for roster in self._kept.values())
        for name in list(self._kept)[:-1]:
            if count <= MOST_TAGS:
                return
            count -= len(self._kept.pop(name).tags)

    async def _follow(self, roster: Roster) -> bool:
        """Bring up to date what changed since; false when that is not enough (something was removed)."""
        view = await self._audit.tags_since(roster.repository, roster.newest, most=MOST_TAGS)
        if roster.kept.get(_MARK) != view.mark:
            return False
        held_total, committed = await self._committed_since(roster)
        facts = {each.tag: each for each in view.facts}
        known = {name: roster.tags.get(name, TagFacts(name)) for name in committed}
        held = {**{name: roster.tags[name].held for name in facts if name in roster.tags}, **committed}
        await self._take(roster, {**known, **facts}, held)
        if not roster.complete:
            return len(roster.tags) < MOST_TAGS + _NAMES_A_CALL
        return (view.total, held_total) == roster.counts()

    async def _committed_since(self, roster: Roster) -> tuple[int, dict[str, int]]:
        """How many tags are held, and those that came to be since the last look, with when."""
        pipeline = self._store.client.pipeline(transaction=False)
        pipeline.zcard(keys.tags(roster.repository))
        pipeline.zrangebyscore(keys.tags(roster.repository), roster.newest_held, "+inf", withscores=True)
        total, pairs = await self._store.do(pipeline.execute())
        return int(total), {name.decode(): int(score) for name, score in pairs}

    async def _read(self, roster: Roster) -> None:
        roster.clear()
        view: TagView = await self._audit.tags_since(roster.repository, 0, most=MOST_TAGS)
        held = await self._held(roster.repository)
        facts = {each.tag: each for each in view.facts}
        names = list(dict.fromkeys([*facts, *held]))
        roster.complete = view.total <= MOST_TAGS and len(names) <= MOST_TAGS
        chosen = {name: facts.get(name) or TagFacts(name) for name in names[:MOST_TAGS]}
        await self._take(roster, chosen, held)
        roster.kept[_MARK] = view.mark

    async def _held(self, repository: str) -> dict[str, int]:
        """Since when each tag is held, latest first."""
        found: dict[str, int] = {}
        for start in range(0, MOST_TAGS + 1, _NAMES_A_CALL):
            pairs = await self._store.do(
                self._store.client.zrevrange(keys.tags(repository), start, start + _NAMES_A_CALL - 1, withscores=True)
            )
            found |= {name.decode(): int(score) for name, score in pairs}
            if len(pairs) < _NAMES_A_CALL:
                break
        return found

    async def _take(self, roster: Roster, facts: Mapping[str, TagFacts], held: Mapping[str, int]) -> None:
        changed = {name: replace(each, held=held.get(name, 0)) for name, each in facts.items()}
        untold = [each for each in changed.values() if each.held and not each.digest]
        roster.update(changed | await self._from_records(roster.repository, untold))
        roster.newest = max([roster.newest, *(each.last for each in changed.values())])
        roster.newest_held = max([roster.newest_held, *(each.held for each in changed.values())])

    async def _from_records(self, repository: str, untold: Sequence[TagFacts]) -> dict[str, TagFacts]:
        """Held tags of which no event tells who set them: it was pruned, or is on its way to the index."""
        found: dict[str, TagFacts] = {}
        for chunk in _chunks(untold, _RECORDS_A_CALL):
            pipeline = self._store.client.pipeline(transaction=False)
            for facts in chunk:
                pipeline.hmget(keys.tag(repository, facts.tag), ("digest", "by"))
            rows = await self._store.do(pipeline.execute())
            for facts, row in zip(chunk, rows, strict=True):
                digest, actor = ((value or b"").decode() for value in row)
                found[facts.tag] = replace(facts, changed=facts.held, digest=digest, by=actor, gone=False)
        return found


def _chunks(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
