"""How much an attack on one proxy slows the reads of others, on a machine that is busy with other things.

Two proxies with a registry and a Redis each stand side by side, and only one is attacked.  They are read from in turn,
so whatever else the machine does is felt by both alike, and the ratio of the medians is the attack's doing.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import aiohttp

from immuproxy.ledger import keys
from immuproxy.store.redis import connect
from tests.support.conversation import Client, image
from tests.support.proxies import ProxyServer, running_proxy
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY = "team/app"
READ = "1.0"
LIMIT = 1.5
"""The median of reads under an attack, by that without."""

TRIES = 4
ROUNDS = 80


async def slowdown(attacked: ProxyServer, quiet: ProxyServer, session: aiohttp.ClientSession) -> float:
    """The least ratio of the medians in a few tries; ends with the first that is below the limit."""
    clients, found = [Client(proxy.url, session) for proxy in (attacked, quiet)], []
    for _ in range(TRIES):
        seconds: tuple[list[float], list[float]] = ([], [])
        for number in range(ROUNDS):
            for which in (0, 1) if number % 2 else (1, 0):
                began = time.perf_counter()
                assert (await clients[which].pull(REPOSITORY, READ)).status == 200
                seconds[which].append(time.perf_counter() - began)
        found.append(statistics.median(seconds[0]) / statistics.median(seconds[1]))
        if found[-1] < LIMIT:
            break
    return min(found)


@contextlib.asynccontextmanager
async def two_proxies(
    start_registry: Callable[..., RegistryServer],
    start_redis: Callable[..., RedisServer],
    *,
    more: Mapping[str, Any] | None = None,
    tags: int = 0,
) -> AsyncIterator[tuple[ProxyServer, ProxyServer, aiohttp.ClientSession]]:
    """Two proxies with one protected tag to read in each, and ``tags`` more in their ledgers (which are older than the
    index of who holds what).
    """
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        proxies = []
        for _ in range(2):
            registry, redis = start_registry(), start_redis()
            proxy = stack.enter_context(running_proxy(registry.url, {"url": redis.url}, more=more))
            assert (await Client(proxy.url, session).push(REPOSITORY, READ, image("read"))).status == 201
            await fill(redis, tags)
            proxies.append(proxy)
        yield proxies[0], proxies[1], session


async def fill(redis: RedisServer, tags: int) -> None:
    """Records of tags that nobody pushed, as an older version wrote them."""
    async with connect(redis.url, timeout=10.0) as store:
        pipeline = store.client.pipeline(transaction=False)
        for number in range(tags):
            tag, digest = f"0.{number}", f"sha256:{number:064x}"
            held: dict[Any, Any] = {
                "digest": digest,
                "needs": digest,
                "generation": 1,
                "since": 1,
                "first": 1,
            }
            pipeline.hset(keys.tag(REPOSITORY, tag), mapping=held)
            pipeline.zadd(keys.tags(REPOSITORY), {tag: 1})
            pipeline.hincrby(keys.pins(REPOSITORY), digest, 1)
        await store.do(pipeline.execute())


@contextlib.asynccontextmanager
async def going_on(attack: Callable[[], Awaitable[None]], *, every: float) -> AsyncIterator[None]:
    """Repeat an attack, so many seconds after it has ended, while the context lasts."""

    async def repeat() -> None:
        while True:
            await attack()
            await asyncio.sleep(every)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
