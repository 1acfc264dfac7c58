"""What is pruned goes from the record for good, oldest first; nothing of it comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from immuproxy.audit.pruning import prune
from immuproxy.audit.record import Projector
from immuproxy.store.redis import Store, connect
from tests.audit.made_up import made_up_events
from tests.audit.recording import publish, recorded, waiting
from tests.support.servers import RedisServer

START, MANY = 1_700_000_000_000, 2_500
EVENTS = sorted(made_up_events(MANY, repositories=1, start=START, days=1), key=lambda event: event.time)
NAME = EVENTS[0].repository


@pytest_asyncio.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    async with connect(redis_server.url, timeout=5) as opened:
        await publish(opened, *EVENTS)
        await Projector(opened).drain(NAME)
        yield opened


async def test_a_prune_that_was_interrupted_is_done_again(store: Store) -> None:
    before = EVENTS[2_200].time
    old = sum(event.time < before for event in EVENTS)
    steps = prune(store, before)
    assert await anext(steps) == 1_000
    await steps.aclose()  # type: ignore[attr-defined]  # of a generator
    assert await recorded(store) == EVENTS[1_000:]
    assert [removed async for removed in prune(store, before)] == [1_000, old - 1_000]
    assert await recorded(store) == EVENTS[old:]


@pytest.mark.parametrize("before", [-5, 0, START])
async def test_nothing_old_is_nothing_to_do(store: Store, before: int) -> None:
    assert [removed async for removed in prune(store, before)] == []
    assert len(await recorded(store)) == MANY


async def test_everything_can_go_and_nothing_comes_back(store: Store) -> None:
    assert [removed async for removed in prune(store, 2**45)][-1] == MANY
    assert await Projector(store).sweep() == 0
    assert await recorded(store) == []
    (later,) = made_up_events(1, first=MANY, repositories=1, start=START)
    await publish(store, later)
    assert await Projector(store).drain(NAME) == 1
    assert await recorded(store) == [later]
    assert await waiting(store, EVENTS) == 0
