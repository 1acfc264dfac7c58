"""An event that is told late, with the time of its push: nobody who reads on skips it or sees anything twice (H115)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest_asyncio

from immuproxy.audit import views
from immuproxy.audit.search import Moment, Search
from immuproxy.console.tags.life import spans
from immuproxy.ledger.model import Action, Event, Outcome
from immuproxy.store.redis import connect
from tests.audit.made_up import digest_of
from tests.audit.settled import Searchable, searchable
from tests.support.servers import RedisServer

START, STEP = 1_700_000_000_000, 60_000
HERE, TAG = "team/app", "latest"


@pytest_asyncio.fixture
async def here(redis_server: RedisServer) -> AsyncIterator[Searchable]:
    async with connect(redis_server.url, timeout=5) as store, searchable(store) as opened:
        yield opened


def push(number: int, outcome: Outcome = Outcome.OVERWRITTEN) -> Event:
    """The push of the minute ``number``, over that of the minute before."""
    time, before = START + STEP * number, digest_of(number - 1)
    event = Event(id=f"{time:012x}{number:010x}", action=Action.PUSH, outcome=outcome, time=time, repository=HERE)
    return replace(event, tag=TAG, digest=digest_of(number), previous_digest=before)


IN_TIME = [push(1), push(2), push(4), push(5)]
LATE = push(3)


async def test_h115_a_list_that_is_read_on_shows_each_event_once(here: Searchable) -> None:
    audit = here.audit
    for event in IN_TIME:
        await here.record.append(event)
    first = await audit.events(Search(), limit=2)
    await here.record.append(LATE)
    second = await audit.events(Search(), limit=2, cursor=first.next_cursor)
    assert [*first.events, *second.events] == IN_TIME[::-1], "what came meanwhile stands above, whatever its time"
    pages, cursor = list[Event](), ""
    for _ in range(len(IN_TIME) + 1):
        page = await audit.events(Search(), limit=1, cursor=cursor)
        pages, cursor = [*pages, *page.events], page.next_cursor
    assert (pages, cursor) == ([LATE, *IN_TIME[::-1]], "")
    assert [event async for event in audit.export(Search())] == pages


async def test_h115_a_tail_gets_it_behind_what_it_has_seen(here: Searchable) -> None:
    audit = here.audit
    for event in IN_TIME:
        await here.record.append(event)
    arrivals = audit.tail(Search(), after=(await audit.events(Search())).live_cursor)
    await here.record.append(LATE)
    await here.record.append(push(6))
    async with asyncio.timeout(10):
        assert [(await anext(arrivals)).event for _ in range(2)] == [LATE, push(6)]


async def test_h115_a_search_by_time_goes_by_the_time_of_the_push(here: Searchable) -> None:
    audit = here.audit
    for event in [*IN_TIME, LATE]:
        await here.record.append(event)
    near = replace(Search(), since=Moment(LATE.time, ""), until=Moment(LATE.time + 1, ""))
    assert [event async for event in audit.export(near)] == [LATE]


async def test_h115_a_tag_goes_through_its_digests_in_the_order_of_its_pushes(here: Searchable) -> None:
    audit = here.audit
    for event in [*IN_TIME, LATE]:
        await here.record.append(event)
    history = (await audit.history(HERE, TAG)).events
    assert [span["digest"] for span in spans(history, LATE.time + STEP * 9)] == [digest_of(n) for n in range(1, 6)]
    assert (await audit.last_set(HERE, TAG)).digest == digest_of(5)


async def test_h115_a_chart_counts_it_once_and_what_is_unknown_as_no_other_outcome(here: Searchable) -> None:
    audit = here.audit
    for event in [*IN_TIME, push(3, Outcome.UNKNOWN)]:
        await here.record.append(event)
    chart = await audit.ask(views.chart, "outcome", START, START + 10 * STEP, 10)
    assert {series.value: series.total for series in chart.series} == {"overwritten": 4, "unknown": 1}
    for outcome in ("refused", "failed"):
        assert await audit.ask(views.top, "repo", since=START, until=START + 10 * STEP, outcome=outcome) == []
