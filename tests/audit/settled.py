"""An index whose every answer has all that Redis records at that moment, for tests that look at pages at once."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from immuproxy.audit import Audit, Follower, Index, Rosters
from immuproxy.audit.record import Record
from immuproxy.store.redis import LedgerUnavailableError, Store

_T = TypeVar("_T")
_REACH = "SELECT ifnull(high, 0), complete FROM state"


class Settled(Index):
    """Before each question it is waited for that the index has followed; not where Redis is down."""

    def __init__(self, folder: Path | None) -> None:
        super().__init__(folder)
        self.follower: Follower | None = None

    async def read(self, ask: Callable[[sqlite3.Connection], _T]) -> _T:
        with suppress(LedgerUnavailableError):
            end = await self.follower.end() if self.follower else 0
            async with asyncio.timeout(50):
                await self._follow(end)
        return await super().read(ask)

    async def _follow(self, end: int) -> None:
        follower = self.follower
        while follower is not None and follower.failed is None:
            seen = follower.seen
            high, complete = await super().read(lambda connection: connection.execute(_REACH).fetchone())
            if complete and high >= end and not follower.behind:
                return
            await follower.change(seen)


@dataclass(frozen=True, slots=True)
class Searchable:
    """What the pages ask, over a real Redis; ``record`` is for writing."""

    audit: Audit
    rosters: Rosters
    record: Record
    follower: Follower


@asynccontextmanager
async def searchable(store: Store, folder: Path | None = None) -> AsyncIterator[Searchable]:
    index = Settled(folder)
    await index.open()
    follower = index.follower = Follower(store, index, retry_seconds=0.05)
    audit = Audit(index, follower)
    task = asyncio.create_task(follower.run())
    try:
        yield Searchable(audit, Rosters(store, audit), Record(store), follower)
    finally:
        await _ended(task)
        await index.close()


@asynccontextmanager
async def newest_only(store: Store) -> AsyncIterator[Searchable]:
    """An index that stands still while it is being built: it has the newest events that are there now."""
    async with _still(store, Index(None)) as here:
        await here.follower.step()
        yield here


@asynccontextmanager
async def full(store: Store) -> AsyncIterator[Searchable]:
    """An index in memory without room for older events, where there are thousands; it stands still, too."""
    async with _still(store, Index(None, memory_bytes=1 << 20)) as here:
        while await here.follower.step():
            pass
        yield here


@asynccontextmanager
async def _still(store: Store, index: Index) -> AsyncIterator[Searchable]:
    await index.open()
    follower = Follower(store, index)
    audit = Audit(index, follower)
    yield Searchable(audit, Rosters(store, audit), Record(store), follower)
    await index.close()


async def _ended(task: asyncio.Task[None]) -> None:
    """Cancel, again and again: redis-py can take a cancellation for a lost connection."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.5)
