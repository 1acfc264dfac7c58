"""A console in a thread of its own, for clients that are not asyncio's: browsers and the fuzzer of the API."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web
from prometheus_client import CollectorRegistry

from immuproxy.allow.exceptions import Exceptions
from immuproxy.audit.record import Projector, Record
from immuproxy.console.access.opening import open_door
from immuproxy.console.app import make_console
from immuproxy.console.settings import ConsoleAuth
from immuproxy.console.sources import ComparisonPace, Dependency, RulesInForce, Sources
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.model import Event
from immuproxy.ledger.register import Register
from immuproxy.store.redis import Store, connect
from tests.audit.settled import Searchable, searchable
from tests.console.events import in_force, now

_T = TypeVar("_T")
Opened = Callable[[Store], contextlib.AbstractAsyncContextManager[Searchable]]
UP = (Dependency("redis", ok=True, detail="version 7.0.15"), Dependency("upstream", ok=True, detail="open to all"))


@dataclass(slots=True)
class RunningConsole:
    """What a test may look at and change."""

    url: str
    sources: Sources
    record: Record
    loop: asyncio.AbstractEventLoop = field(repr=False)

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do something on the console's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=30)

    def seed(self, events: Sequence[Event]) -> None:
        """Put events into the audit, oldest first."""

        async def put() -> None:
            for event in events:
                await self.record.append(event)

        self.run(put())


@contextlib.contextmanager
def running_console(
    redis_url: str,
    *,
    ruling: RulesInForce | None = None,
    parts: Sequence[Dependency] = UP,
    edge: str = "registry.example:5000",
    auth: ConsoleAuth | None = None,
    index: Opened = searchable,
) -> Iterator[RunningConsole]:
    """Serve a console on a free loopback port; ``index`` is what it searches."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="console", daemon=True)
    thread.start()
    stack = contextlib.AsyncExitStack()
    try:
        opening = _open(stack, redis_url, ruling=ruling or in_force(), parts=parts, edge=edge, auth=auth, index=index)
        url, sources, record = asyncio.run_coroutine_threadsafe(opening, loop).result(timeout=30)
        yield RunningConsole(url, sources, record, loop)
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(timeout=30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=30)
        loop.close()


async def _open(
    stack: contextlib.AsyncExitStack,
    redis_url: str,
    *,
    ruling: RulesInForce,
    parts: Sequence[Dependency],
    edge: str,
    auth: ConsoleAuth | None,
    index: Opened,
) -> tuple[str, Sources, Record]:
    async def probe() -> Sequence[Dependency]:
        return parts

    store = await stack.enter_async_context(connect(redis_url, timeout=2.0))
    projector = Projector(store)
    stack.push_async_callback(_ended, asyncio.create_task(projector.run()))
    found = await stack.enter_async_context(index(store))
    sources = Sources(
        audit=found.audit,
        rosters=found.rosters,
        register=Register(store, Epoch(store, quarantine=0.0), published=projector.notify),
        exceptions=Exceptions(store, projector.notify),
        rules=lambda: ruling,
        status=lambda: parts,
        probe=probe,
        metrics=nothing_counted,
        clock=now,
        edge=edge,
        version="0.1.0",
        pace=ComparisonPace(600, 20),
    )
    door = await open_door(auth, store, found.record.append, now)
    runner = web.AppRunner(make_console(sources, door), access_log=None, shutdown_timeout=2.0, max_line_size=65_536)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}", sources, found.record


async def nothing_counted() -> CollectorRegistry:
    return CollectorRegistry()


async def _ended(task: asyncio.Task[None]) -> None:
    """Cancel, again and again: redis-py can take a cancellation for a lost connection."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.5)
