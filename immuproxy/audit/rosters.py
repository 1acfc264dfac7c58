"""All tags of one repository, kept in memory and brought up to date before each use.

A page of a repository sorts and filters all of its tags, and they may be tens of thousands.  So they are read once,
from the index and from the register, and from then on only what changed since.  Memory is bounded: the repositories
that were looked at longest ago are forgotten while all together have more than `MOST_TAGS` (some 350 bytes each), and
of one that has more the others are left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from immuproxy.audit.audit import MOST_TAGS, Audit
from immuproxy.audit.values import TagFacts
from immuproxy.ledger import keys
from immuproxy.store.redis import Store

_NAMES_A_CALL = 5_000
_RECORDS_A_CALL = 250


@dataclass(slots=True)
class Roster:
    """The tags of a repository as of the last look, latest first.  ``version`` grows with each change of ``tags``.

    ``complete`` is false when there were more than `MOST_TAGS`.  ``newest`` and ``newest_held``: the time of the last
    event, and of the last commit, that it knows of; ``mark``: that of `Audit.mark`.  ``kept`` is for what callers work
    out from it and want to find again at the next look.
    """

    repository: str
    tags: dict[str, TagFacts] = field(default_factory=dict)
    version: int = 0
    complete: bool = True
    newest: int = 0
    newest_held: int = 0
    mark: object = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    kept: dict[str, Any] = field(default_factory=dict, repr=False)


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
            mark = await self._audit.mark()
            if roster.mark != mark or not await self._follow(roster):
                roster.version += bool(roster.tags)  # there may be none any more
                roster.tags, roster.newest, roster.newest_held, roster.mark = {}, 0, 0, None
                await self._follow(roster)
                roster.mark = mark
        self._forget_some()
        return roster

    def _forget_some(self) -> None:
        weight = sum(_weight(roster) for roster in self._kept.values())
        for name in list(self._kept)[:-1]:
            if weight <= MOST_TAGS:
                return
            weight -= _weight(self._kept.pop(name))

    async def _follow(self, roster: Roster) -> bool:
        """Take in what changed since the last look; false where that is not all, because a tag is held no more."""
        facts = await self._audit.tags(roster.repository, since=roster.newest, most=MOST_TAGS + 1)
        count = await self._store.do(self._store.client.zcard(keys.tags(roster.repository)))
        held = await self._held(roster.repository, roster.newest_held)
        changed = await asyncio.to_thread(_together, roster.tags, facts, held)
        await self._complete(roster.repository, changed)
        tags = await asyncio.to_thread(_merged, roster.tags, changed)
        if tags is not roster.tags:
            roster.complete = len(tags) <= MOST_TAGS
            roster.tags = tags if roster.complete else dict(islice(tags.items(), MOST_TAGS))
            roster.version += 1
        roster.newest = max([roster.newest, *(each.last for each in facts)])
        roster.newest_held = max([roster.newest_held, *held.values()])
        return not roster.complete or sum(each.held > 0 for each in roster.tags.values()) == count

    async def _held(self, repository: str, since: int) -> dict[str, int]:
        """Since when tags are held that came to be so at or after a time, latest first."""
        found: dict[str, int] = {}
        for start in range(0, MOST_TAGS + 1, _NAMES_A_CALL):
            pairs = await self._store.do(
                self._store.client.zrange(
                    keys.tags(repository),
                    *("+inf", since),
                    desc=True,
                    byscore=True,
                    offset=start,
                    num=_NAMES_A_CALL,
                    withscores=True,
                )
            )
            found |= {name.decode(): int(score) for name, score in pairs}
            if len(pairs) < _NAMES_A_CALL:
                break
        return found

    async def _complete(self, repository: str, tags: dict[str, TagFacts]) -> None:
        """Held tags of which no event tells who set them: it was pruned, or is on its way to the index."""
        untold = iter([facts for facts in tags.values() if facts.held and not facts.digest])
        while some := list(islice(untold, _RECORDS_A_CALL)):
            pipeline = self._store.client.pipeline(transaction=False)
            for facts in some:
                pipeline.hmget(keys.tag(repository, facts.tag), ("digest", "by"))
            for facts, row in zip(some, await self._store.do(pipeline.execute()), strict=True):
                digest, actor = ((value or b"").decode() for value in row)
                tags[facts.tag] = replace(facts, changed=facts.held, digest=digest, by=actor, gone=False)


def _weight(roster: Roster) -> int:
    """Each costs about as much as a tag, be it of a repository that is none."""
    return 1 + len(roster.tags)


def _together(known: Mapping[str, TagFacts], facts: Iterable[TagFacts], held: Mapping[str, int]) -> dict[str, TagFacts]:
    """What changed of tags that events name, last active first, then of those that only came to be held."""
    told = {each.tag: each for each in facts}
    found: dict[str, TagFacts] = {}
    for tag in dict.fromkeys([*told, *held]):
        before = known.get(tag) or TagFacts(tag)
        now, since = told.get(tag, before), held.get(tag, before.held)
        found[tag] = now if now.held == since else replace(now, held=since)
    return found


def _merged(known: dict[str, TagFacts], changed: Mapping[str, TagFacts]) -> dict[str, TagFacts]:
    """All tags, first those that changed; ``known`` itself where none did."""
    if all(known.get(tag) == each for tag, each in changed.items()):
        return known
    return {**changed, **{tag: each for tag, each in known.items() if tag not in changed}}
