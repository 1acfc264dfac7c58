"""What a process knows of the time while Redis does not tell it (H113)."""

from __future__ import annotations

import asyncio
import time

import pytest

from immuproxy.ledger.clock import Clock
from immuproxy.store.redis import LedgerUnavailableError, connect
from tests.support.servers import RedisServer


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_nobody_is_told_a_time_that_is_not_known_nor_waits_for_all_others(
    redis_server: RedisServer, how: str
) -> None:
    async with connect(redis_server.url, timeout=0.5) as store:
        clock = Clock(store)
        getattr(redis_server, how)()
        began = time.monotonic()
        told = await asyncio.gather(*(clock.time() for _ in range(20)), return_exceptions=True)
        assert {isinstance(each, LedgerUnavailableError) for each in told} == {True}
        assert time.monotonic() - began < 3
    if how == "pause":
        redis_server.resume()


async def test_whoever_gives_up_keeps_nobody_from_knowing(redis_server: RedisServer) -> None:
    async with connect(redis_server.url, timeout=5) as store:
        clock = Clock(store)
        redis_server.pause()
        first = asyncio.create_task(clock.time())
        await asyncio.sleep(0)
        others = [asyncio.create_task(clock.time()) for _ in range(3)]
        await asyncio.sleep(0.05)
        first.cancel()
        redis_server.resume()
        now = await store.now_ms()
        for other in others:
            assert abs(await other - now) < 5_000


async def test_the_time_goes_on_between_looks_and_never_back(redis_server: RedisServer) -> None:
    async with connect(redis_server.url, timeout=5) as store:
        clock, other = Clock(store), Clock(store)
        times = [await clock.time(), await clock.looked(), await clock.time()]
        assert times == sorted(times)
        await store.do(store.client.flushall())
        times += [await clock.looked(), await other.time()]
        assert times == sorted(times)
