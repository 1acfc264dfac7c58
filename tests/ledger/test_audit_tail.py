from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from immuproxy.ledger.audit import Arrival, Audit, BadCursorError
from immuproxy.ledger.audit.tail import Tail
from immuproxy.ledger.redis import LedgerUnavailableError, Store, connect
from immuproxy.ledger.search import Search, parse
from tests.ledger.audit_events import made_up_events
from tests.servers import RedisServer

EVENTS = [replace(event, time=0) for event in made_up_events(400)]


@pytest_asyncio.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    async with connect(redis_server.url, timeout=2) as opened:
        yield opened


async def take(arrivals: AsyncIterator[Arrival], count: int) -> list[Arrival]:
    async with asyncio.timeout(10):
        return [await anext(arrivals) for _ in range(count)]


async def started(arrivals: AsyncIterator[Arrival]) -> asyncio.Task[list[Arrival]]:
    """Waiting for its first event."""
    task = asyncio.create_task(take(arrivals, 1))
    await asyncio.sleep(0.1)
    return task


async def test_what_arrives_is_seen_by_everybody_who_asked_for_it(store: Store) -> None:
    audit = Audit(store)
    await audit.append(EVENTS[0])
    everything, refused = audit.tail(Search()), audit.tail(parse("outcome:refused", 0))
    first = await started(everything)
    second = await started(refused)
    for event in EVENTS[1:200]:
        await audit.append(event)
    seen = await first + await take(everything, 198)
    wanted = [event for event in EVENTS[1:200] if event.outcome == "refused"]
    seen_refused = await second + await take(refused, len(wanted) - 1)
    assert [arrival.event.id for arrival in seen] == [event.id for event in EVENTS[1:200]]
    assert [arrival.event.id for arrival in seen_refused] == [event.id for event in wanted]


async def test_a_viewer_goes_on_behind_its_cursor(store: Store) -> None:
    audit = Audit(store)
    watching = audit.tail(Search())
    task = await started(watching)
    for event in EVENTS[:300]:
        await audit.append(event)
    seen = await task + await take(watching, 9)
    rest = await take(audit.tail(Search(), after=seen[-1].cursor), 290)
    assert [arrival.event.id for arrival in seen + rest] == [event.id for event in EVENTS[:300]]


@pytest.mark.parametrize("query", ["", "outcome:created", "-outcome:created", "linux"])
async def test_a_page_and_the_tail_behind_it_show_each_event_once(store: Store, query: str) -> None:
    audit, search = Audit(store), parse(query, 0)
    expected = {event.id for event in EVENTS[:260] if query != "outcome:created" or event.outcome == "created"}
    expected -= {event.id for event in EVENTS if query == "-outcome:created" and event.outcome == "created"}

    async def write() -> None:
        for event in EVENTS[:260]:
            await audit.append(event)

    async def look(after: int) -> None:
        while await audit.total() < after:
            await asyncio.sleep(0.001)
        page = await audit.events(search, limit=1_000)
        assert page.complete
        shown = [event.id for event in page.events][::-1]
        missing = len(expected) - len(shown)
        seen = [arrival.event.id for arrival in await take(audit.tail(search, after=page.live_cursor), missing)]
        assert len({*shown, *seen}) == len(expected)
        assert {*shown, *seen} == expected

    await asyncio.gather(write(), *(look(after) for after in (0, 1, 40, 90, 150, 210, 260)))


async def test_only_the_first_page_says_where_the_tail_goes_on(store: Store) -> None:
    audit = Audit(store)
    for event in EVENTS[:3]:
        await audit.append(event)
    first = await audit.events(Search(), limit=2)
    assert first.live_cursor == await audit.end()
    assert (await audit.events(Search(), limit=2, cursor=first.next_cursor)).live_cursor == ""


async def test_an_empty_audit_has_an_end_too(store: Store) -> None:
    audit = Audit(store)
    page = await audit.events(Search())
    await audit.append(EVENTS[0])
    assert [arrival.event for arrival in await take(audit.tail(Search(), after=page.live_cursor), 1)] == [
        replace(EVENTS[0], time=0)
    ]


async def test_nobody_watches_when_nobody_looks(store: Store) -> None:
    tail = Tail(store, every=0.01)
    viewers = [tail.follow(Search(), "") for _ in range(3)]
    tasks = [await started(viewer) for viewer in viewers]
    watcher = tail._watcher
    assert watcher is not None
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert tail._watcher is None
    await asyncio.wait([watcher])


async def test_many_viewers_ask_redis_one_question(store: Store) -> None:
    tail = Tail(store, every=0.02)
    tasks = [await started(tail.follow(Search(), "")) for _ in range(10)]
    await store.client.config_resetstat()
    await asyncio.sleep(0.5)
    statistics = await store.client.info("commandstats")
    assert 1 <= statistics["cmdstat_xrevrange"]["calls"] <= 30
    assert "cmdstat_xrange" not in statistics
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def reachable(audit: Audit) -> None:
    """Connections from before the restart fail once each."""
    for _ in range(10):
        with contextlib.suppress(LedgerUnavailableError):
            await audit.total()


async def test_a_short_absence_of_redis_is_not_noticed(store: Store, redis_server: RedisServer) -> None:
    audit = Audit(store)
    await audit.append(EVENTS[0])
    task = await started(audit.tail(Search()))
    redis_server.restart()
    await reachable(audit)
    await audit.append(EVENTS[1])
    assert [arrival.event.id for arrival in await task] == [EVENTS[1].id]


async def test_a_viewer_is_told_when_redis_goes_away_and_can_come_back(redis_server: RedisServer) -> None:
    async with connect(redis_server.url, timeout=0.5) as store:
        audit = Audit(store)
        await audit.append(EVENTS[0])
        task = await started(audit.tail(Search()))
        redis_server.stop()
        with pytest.raises(LedgerUnavailableError):
            await task
        redis_server.start()
        await reachable(audit)
        task = await started(audit.tail(Search()))
        await audit.append(EVENTS[1])
        assert [arrival.event.id for arrival in await task] == [EVENTS[1].id]


async def test_a_cursor_of_a_page_is_no_cursor_of_the_tail(store: Store) -> None:
    audit = Audit(store)
    for event in EVENTS[:3]:
        await audit.append(event)
    page = await audit.events(Search(), limit=1)
    with pytest.raises(BadCursorError):
        audit.tail(Search(), after=page.next_cursor)
