"""All tags of one repository, kept in memory and brought up to date before each use.

A page of a repository sorts and filters all of its tags, and they may be tens of thousands.  So what is needed for that
is read once, and from then on only of the tags that had an event since.  Memory is bounded: the repositories that were
looked at longest ago are forgotten, and of a repository with more than `MOST_TAGS` the others are left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from sys import intern
from typing import Any, TypeVar, cast

from immuproxy.ledger import keys
from immuproxy.ledger.audit import entries
from immuproxy.ledger.redis import Store

MOST_TAGS = 100_000
"""Tags of one repository, the last active ones, and tags of all repositories together that are kept (some 350 bytes
each).
"""

_NAMES_A_CALL = 5_000
_TAGS_A_CALL = 1_000
_RECORDS_A_CALL = 250

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class TagFacts:
    """What a list of tags says of one; times in milliseconds, 0 where there is none.

    ``last``: its last event of any kind but exceptions.  ``held``: since when the ledger holds it.  ``changed``: when
    it was last set (or deleted, see ``gone``), to ``digest``, ``by`` whom.
    """

    tag: str
    last: int = 0
    held: int = 0
    changed: int = 0
    digest: str = ""
    by: str = ""
    gone: bool = False


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

    def __init__(self, store: Store) -> None:
        """Nothing is read before the first use."""
        self._store = store
        self._kept: dict[str, Roster] = {}

    async def of(self, repository: str) -> Roster:
        """The tags of a repository as of now.  Do not change them; they are those of everybody."""
        roster = self._kept.pop(repository, None) or Roster(repository)
        self._kept[repository] = roster
        async with roster.lock:
            if not (roster.tags and await self._follow(roster)):
                await self._read(roster)
        self._forget_some()
        return roster

    async def last_set(self, repository: str, tag: str) -> TagFacts:
        """What is known of one tag without its roster; ``last`` and ``held`` are left 0."""
        value = await self._store.do(self._store.client.hget(entries.sets_key(repository), tag))
        return _facts_of(tag, 0, 0, value)

    def _forget_some(self) -> None:
        count = sum(len(roster.tags) for roster in self._kept.values())
        for name in list(self._kept)[:-1]:
            if count <= MOST_TAGS:
                return
            count -= len(self._kept.pop(name).tags)

    async def _follow(self, roster: Roster) -> bool:
        """Bring up to date what changed since; false when that is not enough (something was removed)."""
        repository = roster.repository
        total, lasts = await self._since(entries.tags_key(repository), roster.newest)
        held_total, committed = await self._since(keys.tags(repository), roster.newest_held)
        known = {name: roster.tags[name].last for name in committed if name in roster.tags}
        lasts = {**dict.fromkeys(committed, 0), **known, **lasts}
        changed = await self._facts(repository, lasts, await self._held_among(repository, list(lasts)))
        roster.update({facts.tag: facts for facts in changed})
        roster.newest = max(roster.newest, *lasts.values(), 0)
        roster.newest_held = max(roster.newest_held, *committed.values(), 0)
        if not roster.complete:
            return len(roster.tags) < MOST_TAGS + _NAMES_A_CALL
        return (total, held_total) == roster.counts()

    async def _since(self, key: str, score: int) -> tuple[int, dict[str, int]]:
        """How many members a sorted set has, and those from a score on."""
        pipeline = self._store.client.pipeline(transaction=False)
        pipeline.zcard(key)
        pipeline.zrangebyscore(key, score, "+inf", withscores=True)
        total, pairs = await self._store.do(pipeline.execute())
        return int(total), {name.decode(): int(score) for name, score in pairs}

    async def _read(self, roster: Roster) -> None:
        roster.clear()
        lasts = await self._all(entries.tags_key(roster.repository))
        held = await self._all(keys.tags(roster.repository))
        names = list(dict.fromkeys([*lasts, *held]))
        roster.complete = len(names) <= MOST_TAGS
        for chunk in _chunks(names[:MOST_TAGS], _TAGS_A_CALL):
            wanted = {name: lasts.get(name, 0) for name in chunk}
            roster.update({facts.tag: facts for facts in await self._facts(roster.repository, wanted, held)})
        roster.newest = max(lasts.values(), default=0)
        roster.newest_held = max(held.values(), default=0)

    async def _all(self, key: str) -> dict[str, int]:
        """The members of a sorted set with their scores, greatest first."""
        found: dict[str, int] = {}
        for start in range(0, MOST_TAGS + 1, _NAMES_A_CALL):
            pairs = await self._store.do(
                self._store.client.zrevrange(key, start, start + _NAMES_A_CALL - 1, withscores=True)
            )
            found |= {name.decode(): int(score) for name, score in pairs}
            if len(pairs) < _NAMES_A_CALL:
                break
        return found

    async def _held_among(self, repository: str, names: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for chunk in _chunks(names, _TAGS_A_CALL):
            scores = await self._store.do(self._store.client.zmscore(keys.tags(repository), chunk))
            found |= {name: int(score) for name, score in zip(chunk, scores, strict=True) if score is not None}
        return found

    async def _facts(self, repository: str, lasts: Mapping[str, int], held: Mapping[str, int]) -> list[TagFacts]:
        """The facts of the tags in ``lasts``, which has the times of their last events."""
        found: list[TagFacts] = []
        for chunk in _chunks(list(lasts), _TAGS_A_CALL):
            values = await self._store.do(self._store.client.hmget(entries.sets_key(repository), chunk))
            found += [
                _facts_of(name, lasts[name], held.get(name, 0), value)
                for name, value in zip(chunk, values, strict=True)
            ]
        untold = [facts for facts in found if facts.held and not facts.digest]
        return [*found, *await self._from_records(repository, untold)]

    async def _from_records(self, repository: str, untold: Sequence[TagFacts]) -> list[TagFacts]:
        """Held tags of which no event tells who set them: it was pruned, or is on its way to the audit."""
        found: list[TagFacts] = []
        for chunk in _chunks(untold, _RECORDS_A_CALL):
            pipeline = self._store.client.pipeline(transaction=False)
            for facts in chunk:
                pipeline.hmget(keys.tag(repository, facts.tag), ("digest", "by"))
            rows = await self._store.do(pipeline.execute())
            for facts, row in zip(chunk, rows, strict=True):
                digest, actor = ((value or b"").decode() for value in row)
                found.append(replace(facts, changed=facts.held, digest=digest, by=intern(actor), gone=False))
        return found


def _facts_of(tag: str, last: int, held: int, value: bytes | None) -> TagFacts:
    """``value`` is what the hash of `entries.sets_key` says."""
    if value is None:
        return TagFacts(tag, last, held)
    time, digest, actor = value.decode().split(" ", 2)
    if digest == entries.GONE:
        return TagFacts(tag, last, held, int(time), "", intern(actor), gone=True)
    return TagFacts(tag, last, held, int(time), digest, intern(actor))


def _chunks(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
