"""The whole proxy in one process (``--single``), and how any process of a proxy serves until it is stopped.

The order matters at both ends: the ledger and the upstream open first and close last; at the end the listeners stop
taking connections, then the pushes under way come to their end, then the rest is cancelled.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import structlog

from immuproxy import __version__
from immuproxy.service.base import Base, Start
from immuproxy.service.edge_process import serving
from immuproxy.service.listeners import CONSOLE, EDGE, Sockets
from immuproxy.service.office import Office

log = structlog.get_logger("immuproxy")

Opened = Callable[[asyncio.Event], AbstractAsyncContextManager[None]]
"""What a process serves; the event is set where all files are to be read again at once."""


async def until_stopped(opened: Opened, stop: asyncio.Event, *, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM, or until ``stop`` is set; ``ready`` is called once all is open.

    SIGHUP has all files read again at once.  Raises `CannotOpenError`.
    """
    reload, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    async with opened(reload):
        ready()
        await stop.wait()


async def serve_alone(start: Start) -> None:
    """Serve all in this process until SIGINT or SIGTERM.  Raises `CannotOpenError`."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    await until_stopped(lambda reload: _alone(start, reload), stop, ready=lambda: say_ready(start.sockets))


@asynccontextmanager
async def _alone(start: Start, reload: asyncio.Event) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        base = await Base.open(stack, start, (EDGE, CONSOLE))
        office = await Office.open(stack, base)
        await stack.enter_async_context(serving(base, office.parts))
        await stack.enter_async_context(office.working(reload))
        yield
        say_stopping()


def say_ready(sockets: Sockets) -> None:
    """Once, when all can be served."""
    log.info("ready", edge=str(sockets.edge_at), console=str(sockets.console_at), version=__version__)


def say_stopping() -> None:
    """Once, when no more is begun."""
    log.info("stopping: pushes under way are finished first")
