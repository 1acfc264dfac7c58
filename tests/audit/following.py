"""An index that follows a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from immuproxy.audit.audit import Audit
from immuproxy.audit.follow import Follower
from immuproxy.audit.index import MEMORY_BYTES, Index, IndexDamagedError
from immuproxy.audit.search import Search
from immuproxy.ledger.model import Event
from immuproxy.store.redis import Store


class Failures(list[Exception]):
    """Those that were told, and how often it was told that they are over."""

    over = 0

    def hear(self, failure: Exception | None) -> None:
        if failure is None:
            self.over += 1
        else:
            self.append(failure)


@dataclass(slots=True)
class Followed:
    """The parts, and what they said."""

    audit: Audit
    index: Index
    follower: Follower
    told: list[str]
    failures: Failures

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

    async def until_whole(self, count: int) -> None:
        """The same where the index may be away meanwhile."""

        async def holds() -> bool:
            with suppress(IndexDamagedError):
                return (await self.audit.reach()).complete and await self.audit.total() == count
            return False

        await self.until(holds)

    async def catch_up(self) -> None:
        """Take all that is recorded, where it does not run by itself."""
        while await self.follower.step():
            pass

    async def fails(self) -> bool:
        """Whether it says that something keeps new events away."""
        return bool((await self.audit.reach()).failure)

    async def found(self, search: Search | None = None) -> list[Event]:
        return [event async for event in self.audit.export(search or Search())]


@asynccontextmanager
async def followed(
    store: Store, folder: Path | None, *, running: bool = True, memory_bytes: int = MEMORY_BYTES
) -> AsyncIterator[Followed]:
    told: list[str] = []
    index = Index(folder, told=told.append, memory_bytes=memory_bytes)
    await index.open()
    failures = Failures()
    follower = Follower(store, index, retry_seconds=0.05, on_failure=failures.hear)
    here = Followed(Audit(index, follower), index, follower, told, failures)
    task = asyncio.create_task(follower.run()) if running else None
    try:
        yield here
    finally:
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await index.close()
