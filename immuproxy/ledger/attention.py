"""What wants attention, over all repositories: where findings of drift are open, and where exceptions stand.

The findings and the exceptions themselves are kept with their repository, exact, by the scripts that record them.  As
one script works on one slot of a cluster, a second key says in which repositories to look.  It may name too many: a
repository is added before its script runs.  It is never short of one for longer than until the next sweep, whose
`Attention.tidy` looks at every repository: so it is right again after an older release, a restored copy, or a crash.

Every method raises `immuproxy.store.redis.LedgerUnavailableError` when Redis does not answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from immuproxy.ledger import keys
from immuproxy.store.redis import Store
from immuproxy.values import cursors
from immuproxy.values.cursors import BadCursorError

SETTLED_MS = 60_000
"""How long a repository stays listed after it was added, though nothing is found there: its script may yet run."""

_CHUNK = 500


class AttentionKind(Enum):
    """What may be open: the key that lists the repositories, and the key of one of them (a hash by tag)."""

    DRIFT = (keys.DRIFTING, keys.drift)
    EXCEPTION = (keys.EXCEPTED, keys.exceptions)

    @property
    def listed(self) -> str:
        return self.value[0]

    @property
    def of(self) -> Callable[[str], str]:
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Open:
    """One open thing as its hash has it."""

    repository: str
    tag: str
    value: bytes


@dataclass(frozen=True, slots=True)
class OpenPage:
    """Some open things, repository by repository in the order of their names; ``next_cursor`` is empty at the end."""

    found: tuple[Open, ...]
    next_cursor: str


class Attention:
    """Over one ledger."""

    def __init__(self, store: Store) -> None:
        """Nothing is read before the first question."""
        self._store = store

    async def expect(self, kind: AttentionKind, repository: str) -> None:
        """Something is about to be opened in the repository: call it before the script that does so."""
        await self._store.do(self._store.client.zadd(kind.listed, {repository: await self._store.now_ms()}))

    async def tidy(self, repositories: Sequence[str]) -> Mapping[AttentionKind, frozenset[str]]:
        """Look at all of ``repositories``, set the lists right, and say where something is open."""
        return {kind: await self._tidied(kind, repositories) for kind in AttentionKind}

    async def _tidied(self, kind: AttentionKind, repositories: Sequence[str]) -> frozenset[str]:
        client, now = self._store.client, await self._store.now_ms()
        listed = {
            name.decode(): int(at)
            for name, at in await self._store.do(client.zrange(kind.listed, 0, -1, withscores=True))
        }
        counts = await self._counts(kind, sorted({*repositories, *listed}))
        missing = {name: now for name, count in counts.items() if count and name not in listed}
        over = [name for name, at in listed.items() if not counts[name] and now - at > SETTLED_MS]
        if missing:
            await self._store.do(client.zadd(kind.listed, dict(missing)))
        if over:
            await self._store.do(client.zrem(kind.listed, *over))
        return frozenset(name for name, count in counts.items() if count)

    async def counts(self, kind: AttentionKind) -> dict[str, int]:
        """How many are open in each repository that has any, by name."""
        counts = await self._counts(kind, await self._listed(kind))
        return {name: count for name, count in counts.items() if count}

    async def page(self, kind: AttentionKind, *, limit: int, cursor: str = "") -> OpenPage:
        """About ``limit`` of what is open, from ``cursor`` on; raises `BadCursorError`.

        A repository with many is read in parts.  What is opened or closed meanwhile may show or not; all else shows
        at least once.
        """
        names = await self._listed(kind)
        first, place = _read_cursor(kind, cursor)
        names = [name for name in names if name >= first]
        found: list[Open] = []
        for at, name in enumerate(names):
            place = place if name == first else 0
            while True:
                place, part = await self._store.do(
                    self._store.client.hscan(kind.of(name), place, count=max(limit - len(found), 1))
                )
                found += [Open(name, tag.decode(), value) for tag, value in sorted(part.items())]
                if not place or len(found) >= limit:
                    break
            if len(found) >= limit and (place or at + 1 < len(names)):
                following = (name, place) if place else (names[at + 1], 0)
                return OpenPage(tuple(found), cursors.write(kind.name, following[0], str(following[1])))
        return OpenPage(tuple(found), "")

    async def _listed(self, kind: AttentionKind) -> list[str]:
        found = await self._store.do(self._store.client.zrange(kind.listed, 0, -1))
        return sorted(name.decode() for name in found)

    async def _counts(self, kind: AttentionKind, names: Sequence[str]) -> dict[str, int]:
        counts: dict[str, int] = {}
        for at in range(0, len(names), _CHUNK):
            chunk = names[at : at + _CHUNK]
            pipeline = self._store.client.pipeline(transaction=False)
            for name in chunk:
                pipeline.hlen(kind.of(name))
            counts |= zip(chunk, await self._store.do(pipeline.execute()), strict=True)
            await asyncio.sleep(0)  # thousands of replies are a while for everybody else on the loop
        return counts


def _read_cursor(kind: AttentionKind, cursor: str) -> tuple[str, int]:
    if not cursor:
        return "", 0
    name, place = cursors.read(kind.name, (str, str), cursor)
    if not (isinstance(place, str) and place.isascii() and place.isdigit() and len(place) <= 20):
        raise BadCursorError("this cursor is damaged")
    return str(name), int(place)
