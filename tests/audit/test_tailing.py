"""What arrives is seen once by everybody who asked for it, from where they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from immuproxy.audit.search import Search, parse
from immuproxy.audit.values import Arrival
from immuproxy.ledger.cursors import BadCursorError
from immuproxy.ledger.model import Event
from immuproxy.ledger.redis import connect
from tests.audit.made_up import made_up_events
from tests.audit.settled import Searchable, searchable
from tests.servers import RedisServer

START = 1_700_000_000_000


@pytest_asyncio.fixture
async def here(redis_server: RedisServer) -> AsyncIterator[Searchable]:
    async with connect(redis_server.url, timeout=5) as store, searchable(store) as opened:
        yield opened


async def record(here: Searchable, events: Sequence[Event]) -> None:
    for event in events:
        await here.record.append(event)


async def of(arrivals: AsyncIterator[Arrival], count: int) -> list[Arrival]:
    async with asyncio.timeout(10):
        return [await anext(arrivals) for _ in range(count)]


@pytest.mark.parametrize("query", ["", "outcome:refused"])
async def test_a_page_and_the_tail_behind_it_show_each_event_once(here: Searchable, query: str) -> None:
    events, search = list(made_up_events(60, start=START)), parse(query, START)
    await record(here, events[:30])
    page = await here.audit.events(search, limit=30)
    await record(here, events[30:])
    wanted = [event for event in events if not query or event.outcome == "refused"]
    before = [event for event in events[:30] if event in wanted]
    assert list(page.events) == before[::-1]
    arrivals = await of(here.audit.tail(search, after=page.live_cursor), len(wanted) - len(before))
    assert [each.event for each in arrivals] == wanted[len(before) :]


async def test_a_viewer_goes_on_behind_the_last_that_it_saw(here: Searchable) -> None:
    events = list(made_up_events(6, start=START))
    await record(here, events[:1])
    tails = [here.audit.tail(Search(), after=await here.audit.end()) for _ in range(3)]
    await record(here, events[1:])
    seen = [await of(tail, 3) for tail in tails]
    assert all([each.event for each in arrivals] == events[1:4] for arrivals in seen)
    again = await of(here.audit.tail(Search(), after=seen[0][-1].cursor), 2)
    assert [each.event for each in again] == events[4:]


async def test_an_empty_audit_has_an_end_too(here: Searchable) -> None:
    end = await here.audit.end()
    events = list(made_up_events(2, start=START))
    await record(here, events)
    assert [each.event for each in await of(here.audit.tail(Search(), after=end), 2)] == events


async def test_only_the_first_page_says_where_the_tail_goes_on(here: Searchable) -> None:
    await record(here, list(made_up_events(3, start=START)))
    first = await here.audit.events(Search(), limit=2)
    second = await here.audit.events(Search(), limit=2, cursor=first.next_cursor)
    assert first.live_cursor
    assert not second.live_cursor
    with pytest.raises(BadCursorError):
        here.audit.tail(Search(), after=first.next_cursor)
