"""How often something may be tried, shared by all proxies: budgets that fill up by themselves.

Memory is bounded: a full budget is not kept, and beyond `MOST` those that have a stand-in share it.
Every method raises `immuproxy.store.redis.LedgerUnavailableError` when Redis does not answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from immuproxy.store import keys
from immuproxy.store.redis import Store

MOST = 20_000
"""Budgets kept at once, about 100 bytes each."""

PLACES = 50
"""Places remembered for each user."""

REMEMBERED_MS = 30 * 86_400_000
"""How long the place of a log-in is remembered."""


@dataclass(frozen=True, slots=True)
class Budget:
    """At most ``size`` at once, and one more each ``interval_ms``.

    ``stand_in`` names the budget that it shares when too many are kept; without one it is kept in any case.
    """

    name: str
    size: int
    interval_ms: int
    stand_in: str = ""


class Budgets:
    """The budgets of the console's log-in."""

    def __init__(self, store: Store) -> None:
        """Nothing is read before the first question."""
        self._store = store

    async def take(self, wanted: Sequence[Budget]) -> int:
        """Take one from each, and return 0; or take from none, and return the milliseconds to wait."""
        flat = [item for each in wanted for item in (each.name, each.size, each.interval_ms, each.stand_in)]
        return int(await self._store.script("budget_take", [keys.BUDGETS], [MOST, *flat]))

    async def give_back(self, taken: Sequence[Budget]) -> None:
        """Undo a `take`."""
        pipeline = self._store.client.pipeline(transaction=False)
        for each in taken:
            pipeline.zincrby(keys.BUDGETS, -each.interval_ms, each.name)
        await self._store.do(pipeline.execute())


class Places:
    """From which networks each user has logged in during the last thirty days."""

    def __init__(self, store: Store) -> None:
        """Nothing is read before the first question."""
        self._store = store

    async def knows(self, user: str, network: str, now: int) -> bool:
        """Whether ``user`` has logged in from there."""
        last = await self._store.do(self._store.client.zscore(_places(user), network))
        return last is not None and float(last) > now - REMEMBERED_MS

    async def remember(self, user: str, network: str, now: int) -> None:
        """``user`` has just logged in from there.  Called after a good password only, so strangers fill nothing."""
        key = _places(user)
        pipeline = self._store.client.pipeline(transaction=False)
        pipeline.zadd(key, {network: now})
        pipeline.zremrangebyrank(key, 0, -PLACES - 1)
        pipeline.pexpire(key, REMEMBERED_MS)
        await self._store.do(pipeline.execute())


def _places(user: str) -> str:
    return keys.places(hashlib.sha256(user.encode(errors="surrogateescape")).hexdigest()[:32])


class Untold:
    """How many failed log-ins were left out of the audit because there were too many."""

    def __init__(self, store: Store) -> None:
        """Nothing is read before the first question."""
        self._store = store

    async def add(self) -> None:
        """One more."""
        await self._store.do(self._store.client.incr(keys.UNTOLD))

    async def collect(self) -> int:
        """How many since the last call."""
        return int(await self._store.do(self._store.client.getdel(keys.UNTOLD)) or 0)
