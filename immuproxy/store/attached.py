"""The embedded Redis for a command: that of the proxy which runs already, or one of the command's own for the while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from immuproxy.store import embedded

WAIT_SECONDS = 10.0
"""How long a server that somebody else is starting, or stopping, is waited for."""


@asynccontextmanager
async def reached(directory: Path) -> AsyncIterator[str]:
    """The ``unix://`` URL of the server of ``redis.embedded: directory``.

    Raises `immuproxy.store.embedded.EmbeddedRedisError` where none runs and none can be started.
    """
    socket = await asyncio.to_thread(directory.joinpath("redis.sock").resolve)
    url = f"unix://{socket}"
    async with AsyncExitStack() as stack:
        if not await _answers(url):
            url = await _started(stack, socket)
        yield url


@asynccontextmanager
async def kept(directory: Path) -> AsyncIterator[str]:
    """The ``unix://`` URL of the server that another process of the same proxy keeps, whether or not it runs now."""
    yield f"unix://{await asyncio.to_thread(directory.joinpath('redis.sock').resolve)}"


async def _started(stack: AsyncExitStack, socket: Path) -> str:
    """The URL of a server that is started here, or that another process is just starting in the same directory."""
    loop, url = asyncio.get_running_loop(), f"unix://{socket}"
    ends = loop.time() + WAIT_SECONDS
    while True:
        try:
            return await stack.enter_async_context(embedded.running(socket.parent))
        except embedded.EmbeddedRedisError:
            if not await asyncio.to_thread(socket.exists) or loop.time() > ends:
                raise
            if await _answers(url):
                return url
            await asyncio.sleep(0.05)


async def _answers(url: str) -> bool:
    client = Redis.from_url(url)
    try:
        await client.ping()
    except (RedisError, OSError):
        return False
    finally:
        await client.aclose()
    return True
