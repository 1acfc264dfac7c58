"""An index that follows a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from immuproxy.audit.audit import Audit
from immuproxy.audit.follow import Follower
from immuproxy.audit.index import MEMORY_BYTES, Index
from immuproxy.audit.search import Search
from immuproxy.ledger.model import Event
from immuproxy.ledger.redis import Store


@dataclass(slots=True)
class Followed:
    """The parts, and what they said."""

    audit: Audit
    index: Index
    follower: Follower
    told: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Wait for something that a change of the index brings."""
        async with asyncio.timeout(30):
            seen = self.follower.seen
            while not await holds():
                await self.follower.change(seen)
                seen = self.follower.seen

    async def until_all(self, count: int) -> None:
        """Wait until so many events are there, and no more are missing."""

        async def holds() -> bool:
            return (await self.audit.reach()).complete and await self.audit.total() == count

        await self.until(holds)

    async def found(self, search: Search | None = None) -> list[Event]:
        return [event async for event in self.audit.export(search or Search())]


@asynccontextmanager
async def followed(
    store: Store, folder: Path | None, *, running: bool = True, memory_bytes: int = MEMORY_BYTES
) -> AsyncIterator[Followed]:
    told: list[str] = []
    failures: list[Exception] = []
    index = Index(folder, told=told.append, memory_bytes=memory_bytes)
    await index.open()
    follower = Follower(store, index, retry_seconds=0.05, on_failure=failures.append)
    task = asyncio.create_task(follower.run()) if running else None
    try:
        yield Followed(Audit(index, follower), index, follower, told, failures)
    finally:
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await index.close()
