"""Whoever asks Redis waits for their turn: that is no absence of Redis, nor is whatever the proxy is short of (H82)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from immuproxy.store.redis import LedgerUnavailableError, ProxyOverloadedError, Store, connect
from immuproxy.store.turns import OverloadedError, Turns
from tests.support.servers import RedisServer


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    async with connect(redis_server.url, timeout=1.0, turns=Turns(at_once=20, longest=10.0)) as opened:
        yield opened


async def outcomes(store: Store, asked: int) -> Counter[type]:
    """The types of what so many commands at one moment give."""
    asking = (store.do(store.client.get("x")) for _ in range(asked))
    return Counter(type(found) for found in await asyncio.gather(*asking, return_exceptions=True))


@contextlib.contextmanager
def no_more_files() -> Iterator[None]:
    """Nothing more can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_turns_are_taken_in_the_order_of_coming_and_so_many_at_once() -> None:
    turns, order, under_way, most = Turns(at_once=3), list[int](), set[int](), 0

    async def ask(number: int) -> None:
        nonlocal most
        async with turns.turn():
            order.append(number)
            under_way.add(number)
            most = max(most, len(under_way))
            await asyncio.sleep(0)
            under_way.remove(number)

    await asyncio.gather(*(ask(number) for number in range(50)))
    assert (order, most) == (list(range(50)), 3)


async def test_the_wait_for_a_turn_ends_some_time() -> None:
    turns = Turns(at_once=1, longest=0.01)
    async with turns.turn():
        with pytest.raises(OverloadedError, match="no turn"):
            async with turns.turn():
                pass
    async with turns.turn():
        pass


async def test_a_turn_that_nobody_wants_any_more_goes_to_the_next() -> None:
    turns, took = Turns(at_once=1), list[int]()

    async def ask(number: int) -> None:
        async with turns.turn():
            took.append(number)

    async with turns.turn():
        waiting = [asyncio.create_task(ask(number)) for number in range(10)]
        await asyncio.sleep(0)
        for task in waiting[::2]:
            task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert took == [1, 3, 5, 7, 9]


async def test_h82_more_commands_than_connections_are_all_answered(store: Store) -> None:
    assert await outcomes(store, 500) == {type(None): 500}
    assert (await store.information())["connected_clients"] <= 22


async def test_whether_redis_answers_is_asked_beside_the_queue(redis_server: RedisServer) -> None:
    async with connect(redis_server.url, timeout=3, turns=Turns(at_once=1, longest=0.01)) as store:
        waiting = asyncio.create_task(store.do(store.client.blpop(["nothing"], timeout=0.2)))
        await asyncio.sleep(0.05)
        with pytest.raises(ProxyOverloadedError):
            await store.do(store.client.get("x"))
        assert (await store.information())["redis_version"]
        await waiting


async def test_h82_those_who_wait_hear_of_a_silent_redis_with_those_who_asked(
    store: Store, redis_server: RedisServer
) -> None:
    await outcomes(store, 50)
    redis_server.pause()
    began = time.monotonic()
    assert await outcomes(store, 500) == {LedgerUnavailableError: 500}
    assert time.monotonic() - began < 5  # one lot after the other would be 25
    redis_server.resume()
    assert await outcomes(store, 50) == {type(None): 50}


async def test_h82_a_redis_that_is_not_there_is_away_for_all(store: Store, redis_server: RedisServer) -> None:
    redis_server.kill()
    assert await outcomes(store, 100) == {LedgerUnavailableError: 100}


async def test_h82_no_file_for_a_connection_is_the_proxys_own_shortage(store: Store) -> None:
    with no_more_files():
        found = await outcomes(store, 5)
    assert found == {ProxyOverloadedError: 5}
    assert await outcomes(store, 5) == {type(None): 5}


async def test_h82_a_redis_that_takes_no_more_clients_is_not_away(start_redis: Callable[..., RedisServer]) -> None:
    async with connect(start_redis(more={"maxclients": "10"}).url, timeout=1.0) as store:
        assert set(await outcomes(store, 50)) == {ProxyOverloadedError, type(None)}


@pytest.mark.parametrize("connected", [False, True])
async def test_h82_a_reply_that_comes_while_the_loop_stands_still_is_no_silence(
    redis_server: RedisServer, connected: bool
) -> None:
    async with connect(redis_server.url, timeout=0.3) as store:
        if connected:
            await store.do(store.client.get("x"))
        asking = asyncio.create_task(outcomes(store, 5))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.001, time.sleep, 0.6)
        assert set(await asking) <= {ProxyOverloadedError, type(None)}
