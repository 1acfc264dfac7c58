"""What is recorded of a push, as those hear it who tell how it ended: all of it, or that it is not all, or nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import monotonic, time

import pytest
import pytest_asyncio

from immuproxy.audit import Audit, Follower, Index, Visitor, audit, paging, testimony, walking
from immuproxy.audit.record import Projector, Record, keys
from immuproxy.audit.testimony import MOST, Told, UnheardError, Witnesses
from immuproxy.ledger.model import Event
from immuproxy.store.redis import Store
from tests.audit.made_up import fill, made_up_events
from tests.audit.recording import publish

SOON = 1.5
"""Seconds: a push waits for one of them, and this machine is slow."""


@pytest_asyncio.fixture
async def index(tmp_path: Path) -> AsyncIterator[Index]:
    opened = Index(tmp_path)
    await opened.open()
    yield opened
    await opened.close()


@asynccontextmanager
async def following(follower: Follower) -> AsyncIterator[None]:
    task = asyncio.create_task(follower.run())
    try:
        yield
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=0.5)
        with suppress(asyncio.CancelledError):
            task.result()


def pushes(count: int) -> list[Event]:
    """Of one tag, one after the other."""
    like = next(made_up_events(1))
    return [replace(like, id=f"push-{n}", time=like.time + n, tag="1.0", repository="team/app") for n in range(count)]


async def told(store: Store, record: Told) -> testimony.Testimony:
    began = monotonic()
    found = await Witnesses(store, record).of_tag("team/app", "1.0")
    assert monotonic() - began < SOON
    return found


async def is_unheard(store: Store, record: Told) -> bool:
    """Whether the index says that it cannot tell; what stands in the stream is found there all the same (H133)."""
    with pytest.raises(UnheardError):
        await told(store, record)
    walked = await Witnesses(store, record).of_tag("team/app", "1.0", walk=True)
    return walked == await told(store, Visitor(store, None))


def damage(folder: Path) -> None:
    files = list(folder.rglob("*.sqlite3*"))
    assert files
    for file in files:
        file.write_bytes(b"\xff" * 8192)


def ids_of(events: list[Event]) -> set[str]:
    return {event.id for event in events}


def ids(found: testimony.Testimony) -> set[str]:
    return {event.id for event in found.events}


async def test_all_is_told_wherever_it_stands(store: Store, index: Index) -> None:
    events = pushes(6)
    follower = Follower(store, index)
    await publish(store, *events[:4], replace(events[0], id="other", tag="2.0"))
    await Projector(store).drain("team/app")
    await publish(store, *events[4:])
    async with following(follower):
        for record in (Audit(index, follower), Visitor(store, None)):
            found = await told(store, record)
            assert found.whole
            assert ids(found) == {event.id for event in events}


@pytest.mark.parametrize("events", [MOST, MOST + 1])
async def test_more_than_can_be_read_is_not_all(store: Store, index: Index, events: int) -> None:
    for event in pushes(events):
        await Record(store).append(event)
    follower = Follower(store, index)
    while await follower.step():
        pass
    for record in (Audit(index, follower), Visitor(store, None)):
        found = await told(store, record)
        assert (len(found.events), found.whole) == (MOST, events == MOST)


async def once_heard(store: Store, record: Audit) -> testimony.Testimony:
    """The index follows within a second, or later where others keep the machine busy."""
    while True:
        with contextlib.suppress(UnheardError):
            return await told(store, record)


async def test_h133_more_that_waits_than_can_be_read_tells_nothing_until_it_is_carried_over(
    store: Store, index: Index
) -> None:
    last, *others = pushes(MOST + 1)
    await publish(store, last, *(replace(event, tag="2.0") for event in others))
    follower = Follower(store, index)
    async with following(follower):
        for record in (Audit(index, follower), Visitor(store, None)):
            with pytest.raises(UnheardError):
                await told(store, record)
        await Projector(store).drain("team/app")
        assert await once_heard(store, Audit(index, follower)) == testimony.Testimony((last,), whole=True)


async def test_h133_an_index_that_is_behind_tells_nothing(store: Store, index: Index) -> None:
    first, second = pushes(2)
    follower = Follower(store, index)
    await Record(store).append(first)
    while await follower.step():
        pass
    assert (await told(store, Audit(index, follower))).whole
    await Record(store).append(second)
    assert await is_unheard(store, Audit(index, follower))
    async with following(follower):
        assert ids(await told(store, Audit(index, follower))) == {first.id, second.id}


async def test_h133_an_index_that_is_being_built_tells_nothing_of_what_it_may_not_have(
    store: Store, index: Index
) -> None:
    """The newest events are there already."""
    others = [replace(event, repository="team/other") for event in pushes(1_000)]
    (first,), last = pushes(1), replace(*pushes(1), id="last", time=others[-1].time + 1)
    await fill(store, [first, *others, last])
    follower = Follower(store, index)
    audit = Audit(index, follower)
    assert await is_unheard(store, audit)
    await follower.step()
    assert await is_unheard(store, audit)
    newest = await Witnesses(store, audit).of_tag("team/app", "1.0", since=last.time)
    assert newest == testimony.Testimony((last,), whole=True)


async def test_time_that_runs_out_among_events_of_other_times_tells_nothing(
    store: Store, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stand below the time from which on all is asked for, and are looked for last."""
    ahead = replace(*pushes(1), time=int(time() * 1000) + 3_600_000)
    await Record(store).append(ahead)
    follower = Follower(store, index)
    while await follower.step():
        pass
    witnesses = Witnesses(store, Audit(index, follower))
    with monkeypatch.context() as hurry:
        hurry.setattr(paging, "DEADLINE", 0.0)
        hurry.setattr(audit, "monotonic", count(0, 10).__next__)  # each look at the clock is ten seconds later
        with pytest.raises(UnheardError):
            await witnesses.of_tag("team/app", "1.0", since=ahead.time)
    assert await witnesses.of_tag("team/app", "1.0", since=ahead.time) == testimony.Testimony((ahead,), whole=True)


async def test_h133_an_index_that_is_damaged_or_not_open_tells_nothing(store: Store, tmp_path: Path) -> None:
    (event,) = pushes(1)
    await Record(store).append(event)
    index = Index(tmp_path)
    follower = Follower(store, index)
    assert await is_unheard(store, Audit(index, follower))
    await index.open()
    try:
        while await follower.step():
            pass
        damage(tmp_path)
        assert await is_unheard(store, Audit(index, follower))
    finally:
        await index.close()


@pytest.mark.parametrize("later", [0, 1])
async def test_an_index_of_another_past_tells_nothing_of_it(store: Store, index: Index, later: int) -> None:
    """Redis went back, and maybe on: that the index has newer events does not mean that it has these."""
    *before, after = pushes(3)
    follower = Follower(store, index)
    for event in before:
        await Record(store).append(event)
    while await follower.step():
        pass
    await store.do(store.client.delete(keys.EVENTS))
    for _ in range(later):
        await Record(store).append(replace(after, time=before[0].time - 10))
    assert await is_unheard(store, Audit(index, follower))
    async with following(follower):
        found = await told(store, Audit(index, follower))
    assert (ids(found), found.whole) == ({after.id} if later else set(), True)


async def test_h133_a_walk_that_takes_too_long_is_not_begun_again_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that does not go back as far is: a push whose end can be found out does not wait behind one of which not."""
    events = pushes(3)
    for event in events:
        await Record(store).append(event)
    record = Audit(index := Index(None), Follower(store, index))
    monkeypatch.setattr("immuproxy.audit.index.OPENING", 0.01)
    witnesses = Witnesses(store, record)
    with monkeypatch.context() as hurry:
        hurry.setattr(walking, "SECONDS", 0.0)
        with pytest.raises(UnheardError):
            await witnesses.of_tag("team/app", "1.0", since=events[1].time, walk=True)
    for since in (0, events[1].time):
        with pytest.raises(UnheardError):
            await witnesses.of_tag("team/app", "1.0", since=since, walk=True)
    newest = await witnesses.of_tag("team/app", "1.0", since=events[2].time, walk=True)
    assert newest == testimony.Testimony((events[2],), whole=True)
    monkeypatch.setattr(walking, "RESTS", 0.0)
    with monkeypatch.context() as hurry:
        hurry.setattr(walking, "SECONDS", 0.0)
        with pytest.raises(UnheardError):
            await witnesses.of_tag("team/app", "1.0", since=events[2].time, walk=True)
    assert ids(await witnesses.of_tag("team/app", "1.0", walk=True)) == ids_of(events)
