"""What arrives is seen once by everybody who asked for it, from where they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio

from immuproxy.audit import deadline, paging
from immuproxy.audit.search import Search, parse
from immuproxy.audit.values import Arrival
from immuproxy.ledger.model import Event
from immuproxy.store.redis import Store
from immuproxy.values import cursors
from immuproxy.values.cursors import BadCursorError, Position
from tests.audit.following import followed
from tests.audit.made_up import START, fill, made_up_events
from tests.audit.settled import Searchable, searchable

BEGINNING = cursors.write_position("newer", Position(0, 0))


@pytest_asyncio.fixture
async def here(store: Store) -> AsyncIterator[Searchable]:
    async with searchable(store) as opened:
        yield opened


async def record(here: Searchable, events: Sequence[Event]) -> None:
    for event in events:
        await here.record.append(event)


async def of(arrivals: AsyncIterator[Arrival], number: int) -> list[Arrival]:
    async with asyncio.timeout(10):
        return [await anext(arrivals) for _ in range(number)]


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


async def test_a_tail_goes_on_where_what_is_new_takes_longer_than_a_question_may(
    here: Searchable, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time is counted in steps of SQLite here: those of some hundred events fit into what a question may take."""
    events, search = list(made_up_events(3_000, repositories=20, start=START)), parse("repo:**app-1**", START)
    await fill(store, events)
    wanted = [event for event in events if "app-1" in event.repository]
    assert (await here.audit.events(search)).events
    ticks = count(0.0, deadline.SECONDS / 250)
    monkeypatch.setattr(deadline, "monotonic", partial(next, ticks))
    monkeypatch.setattr(paging, "monotonic", partial(next, ticks))
    monkeypatch.setattr(deadline, "OPCODES", 1_000)
    arrivals = await of(here.audit.tail(search, after=BEGINNING), len(wanted))
    assert [each.event for each in arrivals] == wanted


async def test_a_tail_that_is_far_behind_holds_few_events_at_once(tmp_path: Path, store: Store) -> None:
    events = list(made_up_events(1_000, start=START))
    await fill(store, events)
    async with followed(store, tmp_path) as here:
        await here.until_all(len(events))
        step = await here.index.read(partial(paging.newer, searches=[Search()], after=0))
        assert [found.event for found in step.found] == events[:100]
        arrivals = await of(here.audit.tail(Search(), after=BEGINNING), len(events))
        assert [each.event for each in arrivals] == events
