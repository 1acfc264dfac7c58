"""Redis comes back with another past than the index has read: all that the record holds is shown, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from immuproxy.audit import follow
from immuproxy.audit.pruning import prune
from immuproxy.audit.record import Record
from immuproxy.audit.record.keys import EVENTS
from immuproxy.ledger.model import Event
from immuproxy.store.redis import Store
from tests.audit.following import followed
from tests.audit.made_up import START, fill, made_up_events
from tests.support.servers import RedisServer


def some(count: int, **options: int) -> list[Event]:
    return list(made_up_events(count, repositories=10, start=START, **options))


async def record(store: Store, events: Iterable[Event]) -> None:
    for event in events:
        assert await Record(store).append(event)


async def put_back(store: Store, copy: Any) -> None:
    await store.client.restore(EVENTS, 0, copy, replace=True)


def later(events: list[Event], name: str, *times: int) -> list[Event]:
    return [replace(events[0], id=f"{name}-{time}", time=START + 10**10 + time) for time in times]


@pytest.mark.parametrize("restarted", [True, False])
async def test_h130_another_event_at_the_place_of_the_newest_is_another_past(
    store: Store, tmp_path: Path, restarted: bool
) -> None:
    """An older copy, a clock that went back: the ids that are given out next have been given out before."""
    events = some(60)
    await fill(store, events)
    copy: Any = await store.client.dump(EVENTS)
    async with followed(store, tmp_path, running=False) as here:
        await record(store, later(events, "lost", 1, 2, 3))
        await here.catch_up()
        new = later(events, "new", 1, 2, 3, 4)
        if not restarted:
            await put_back(store, copy)
            await record(store, new)
            await here.catch_up()
            assert await here.found() == [*new[::-1], *events[::-1]]
    if restarted:
        await put_back(store, copy)
        await record(store, new)
        async with followed(store, tmp_path, running=False) as again:
            await again.catch_up()
            assert await again.found() == [*new[::-1], *events[::-1]]


async def test_h130_events_that_are_taken_again_in_another_order_are_found_once(
    store: Store, tmp_path: Path, redis_server: RedisServer
) -> None:
    events = some(60)
    await fill(store, events)
    copy: Any = await store.client.dump(EVENTS)
    async with followed(store, tmp_path, running=False) as here:
        first, middle, last = later(events, "event", 1, 2, 3)
        await record(store, [first, last])
        await here.catch_up()
        await put_back(store, copy)
        await record(store, [last, first])
        await here.catch_up()
        assert await here.found() == [first, last, *events[::-1]]
        await put_back(store, copy)
        await record(store, [first, last])
        await here.catch_up()
        # And with one that has come in between, at a failover, which no follower sleeps through.
        following = asyncio.create_task(here.follower.run())
        redis_server.stop()
        await here.until(here.fails)
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        redis_server.start()
        await put_back(store, copy)
        await record(store, [first, middle, last])
        await here.catch_up()
        assert await here.found() == [last, middle, first, *events[::-1]]


async def test_h130_what_was_pruned_and_comes_back_is_read_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "BATCH", 20)
    events = some(60)
    await fill(store, events)
    copy: Any = await store.client.dump(EVENTS)
    async with followed(store, tmp_path, running=False) as here:
        await here.catch_up()
        async for _ in prune(store, events[40].time):
            pass
        await here.catch_up()
        assert (await here.audit.total(), (await here.audit.reach()).complete) == (20, True)
        await put_back(store, copy)
        await here.follower.step()
        assert not (await here.audit.reach()).complete
        await here.catch_up()
        assert await here.found() == events[::-1]
        assert (await here.audit.reach()).complete
        assert not here.told


@pytest.mark.parametrize("spoilt", [b"\xff", b"\x1f".join([b"id", b"push", b"created", b"when?"])])
async def test_h130_what_is_no_event_is_of_this_past_and_so_is_what_is_there_twice(
    store: Store, tmp_path: Path, spoilt: bytes
) -> None:
    events = some(60)
    await fill(store, events)
    newest: Any = await store.client.xrevrange(EVENTS, count=1)
    written = newest[0][1]
    async with followed(store, tmp_path, running=False) as here:
        await here.catch_up()
        await store.client.xadd(EVENTS, written, id=f"{events[-1].time + 1}-0")
        await here.catch_up()
        await store.client.xadd(EVENTS, {"event": spoilt}, id=f"{events[-1].time + 2}-0")
        await here.catch_up()
    async with followed(store, tmp_path, running=False) as again:
        await again.catch_up()
        assert await again.audit.total() == 61
        assert not here.told + again.told
