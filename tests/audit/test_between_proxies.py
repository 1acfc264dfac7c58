"""A client that goes from one proxy to another, of which one is behind: it misses nothing, and gets nothing twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from immuproxy.audit import audit, follow
from immuproxy.audit.index import IndexFullError
from immuproxy.audit.record import Record
from immuproxy.audit.search import Search
from immuproxy.ledger.model import Event
from immuproxy.store.redis import Store
from tests.audit.following import followed
from tests.audit.made_up import START, fill, made_up_events
from tests.support.servers import RedisServer


@pytest_asyncio.fixture
async def events(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    monkeypatch.setattr(follow, "BATCH", 50)
    made = list(made_up_events(120, repositories=10, start=START))
    await fill(store, made)
    return made


def later(events: list[Event], count: int) -> list[Event]:
    return [replace(events[0], id=f"later-{number}", time=START + 10**10 + number) for number in range(count)]


async def record(store: Store, events: list[Event]) -> None:
    for event in events:
        await Record(store).append(event)


async def test_h129_a_page_waits_for_what_its_cursor_points_at(store: Store, events: list[Event]) -> None:
    async with followed(store, None, running=False) as ahead, followed(store, None, running=False) as behind:
        await behind.catch_up()
        new = later(events, 20)
        await record(store, new)
        await ahead.catch_up()
        first = await ahead.audit.events(Search(), limit=5)
        asked = asyncio.create_task(behind.audit.events(Search(), limit=1_000, cursor=first.next_cursor))
        await behind.audit.total()  # behind its first look
        await behind.catch_up()
        rest = await asked
        assert [*first.events, *rest.events] == [*new[::-1], *events[::-1]]


async def test_h129_a_page_that_cannot_wait_goes_on_at_the_same_cursor(
    store: Store, events: list[Event], redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_WAITED", 0.05)
    async with followed(store, None, running=False) as ahead, followed(store, None, running=False) as behind:
        await behind.catch_up()
        await record(store, later(events, 20))
        await ahead.catch_up()
        cursor = (await ahead.audit.events(Search(), limit=5)).next_cursor
        page = await behind.audit.events(Search(), cursor=cursor)
        assert (page.events, page.complete, page.next_cursor) == ((), False, cursor)
        redis_server.stop()
        page = await behind.audit.events(Search(), cursor=cursor)
        assert (page.events, page.complete, page.next_cursor) == ((), False, cursor)


async def test_h129_a_cursor_above_all_that_is_recorded_is_answered_at_once(store: Store, events: list[Event]) -> None:
    async with followed(store, None, running=False) as here:
        await record(store, later(events, 20))
        await here.catch_up()
        cursor = (await here.audit.events(Search(), limit=5)).next_cursor
        await store.client.flushall()
        await fill(store, events)
        await here.catch_up()
        assert list((await here.audit.events(Search(), limit=1_000, cursor=cursor)).events) == events[::-1]


async def test_h129_a_tail_leaves_nothing_out_that_is_still_being_read(
    store: Store, events: list[Event], tmp_path: Path
) -> None:
    async with followed(store, None, running=False) as one:
        await one.catch_up()
        after = await one.audit.end()
    new = later(events, 130)
    await record(store, new)
    async with followed(store, tmp_path, running=False) as two:
        await two.follower.step()
        arrivals = two.audit.tail(Search(), after=after)
        arriving = asyncio.ensure_future(anext(arrivals))
        await two.audit.total()  # behind its first look
        await two.catch_up()
        assert [(await arriving).event, *[(await anext(arrivals)).event for _ in new[1:]]] == new


async def test_h129_a_tail_that_goes_back_further_than_memory_says_so(store: Store, events: list[Event]) -> None:
    async with followed(store, None, running=False) as one:
        await one.catch_up()
        after = await one.audit.end()
    await record(store, later(events, 1_500))
    async with followed(store, None, running=False, memory_bytes=1 << 20) as two:
        await two.catch_up()
        assert two.follower.bounded
        with pytest.raises(IndexFullError):
            await anext(two.audit.tail(Search(), after=after))


async def test_h129_a_tail_that_begins_before_the_index_does_shows_only_what_comes(
    store: Store, events: list[Event]
) -> None:
    async with followed(store, None, running=False) as here:
        first = await here.audit.events(Search())
        tails = [here.audit.tail(Search()), here.audit.tail(Search(), after=first.live_cursor)]
        arriving = [asyncio.ensure_future(anext(tail)) for tail in tails]
        await here.audit.end()
        await here.catch_up()
        (new,) = later(events, 1)
        await record(store, [new])
        await here.catch_up()
        assert [(await each).event for each in arriving] == [new, new]
