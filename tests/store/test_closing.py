"""What leaves the store takes its connections along, also those that nobody reads any more."""

from __future__ import annotations

import asyncio
import contextlib

from redis import Redis

from immuproxy.store.redis import Store, connect
from tests.support.servers import RedisServer

MORE_THAN_A_SOCKET_HOLDS = 20_000_000


async def _write(store: Store) -> None:
    await store.do(store.client.set("k", b"x" * MORE_THAN_A_SOCKET_HOLDS))


async def test_a_connection_that_hangs_keeps_nobody_from_leaving(redis_server: RedisServer) -> None:
    with Redis.from_url(redis_server.url) as looking:
        looking.ping()
        async with connect(redis_server.url, timeout=0.5) as store:
            await store.now_ms()
            redis_server.pause()
            writing = asyncio.create_task(_write(store))
            await asyncio.sleep(0.05)
        redis_server.resume()
        with contextlib.suppress(Exception):
            await writing
        while looking.info("clients")["connected_clients"] > 1:  # what was on its way still goes out
            await asyncio.sleep(0.01)
