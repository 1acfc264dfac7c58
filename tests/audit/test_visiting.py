"""A command finds the same events wherever they are: in a proxy's index, in the stream, or in part here and there."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from immuproxy.audit import Index, follow, schema, visiting
from immuproxy.audit.follow import Follower
from immuproxy.audit.record.keys import EVENTS
from immuproxy.audit.search import Search, parse
from immuproxy.audit.visiting import Visitor
from immuproxy.ledger.model import Event
from immuproxy.store.redis import Store
from tests.audit import naive, odd_events
from tests.audit.following import followed

COUNT = 700
Placed = list[tuple[int, Event]]


@pytest.fixture(autouse=True)
def short_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visiting, "BATCH", 64)
    monkeypatch.setattr(follow, "BATCH", 500)


async def put(store: Store, placed: Placed) -> None:
    for place, event in placed:
        raw = odd_events.written(event).decode()
        entry_id = f"{schema.ms_of(place)}-{place & schema.MOST_SEQUENCE}"
        await store.client.xadd(EVENTS, {"event" if raw.isascii() else "unicode": raw}, id=entry_id)


async def forget(store: Store, before: int) -> None:
    await store.client.xtrim(EVENTS, minid=f"{schema.ms_of(before)}-{before & schema.MOST_SEQUENCE}", approximate=False)


async def build(store: Store, folder: Path, steps: int) -> None:
    """An index that was left after so many steps."""
    index = Index(folder)
    await index.open()
    follower = Follower(store, index)
    for _ in range(steps):
        await follower.step()
    await index.close()


async def agrees(store: Store, folder: Path | None, placed: Placed, *, walked: range) -> None:
    """All questions give what the events say; ``walked``: of how many of them the stream was asked."""
    chance = random.Random(7)
    events = [event for _, event in placed]
    told = [0]
    visitor = Visitor(store, folder, progress=lambda done, _: told.append(done))
    assert [event async for event in visitor.export(Search())] == events[::-1]
    assert told[-1] in walked
    for _ in range(25):
        search = odd_events.search(chance, events)
        assert [event.id async for event in visitor.export(search)] == naive.found([search], events[::-1]), search
    for place in (placed[0][0], placed[len(placed) // 3][0], placed[-1][0], placed[-1][0] + (9 << 16)):
        before = schema.ms_of(place)
        assert await visitor.count(before) == sum(schema.ms_of(each) < before for each, _ in placed)


@pytest.fixture
def placed() -> Placed:
    return list(odd_events.events(random.Random(3), COUNT))


async def test_without_an_index_the_stream_is_walked(store: Store, tmp_path: Path, placed: Placed) -> None:
    await put(store, placed)
    await agrees(store, None, placed, walked=range(COUNT, COUNT + 1))
    await agrees(store, tmp_path / "nothing", placed, walked=range(COUNT, COUNT + 1))


async def test_the_index_of_a_proxy_that_runs_is_asked(store: Store, tmp_path: Path, placed: Placed) -> None:
    await put(store, placed)
    async with followed(store, tmp_path) as here:
        await here.until_all(COUNT)
        await agrees(store, tmp_path, placed, walked=range(1))


async def test_what_an_index_does_not_have_is_read_in_the_stream(store: Store, tmp_path: Path, placed: Placed) -> None:
    await put(store, placed[:600])
    await build(store, tmp_path, steps=1)  # the newest 500
    await put(store, placed[600:])
    await agrees(store, tmp_path, placed, walked=range(200, 201))


async def test_what_was_pruned_is_not_found_in_an_index_that_still_has_it(
    store: Store, tmp_path: Path, placed: Placed
) -> None:
    await put(store, placed)
    await build(store, tmp_path, steps=3)
    rest = [each for each in placed if schema.ms_of(each[0]) > schema.ms_of(placed[50][0])]
    await forget(store, rest[0][0])
    await agrees(store, tmp_path, rest, walked=range(1))
    await forget(store, placed[-1][0] + 1)
    visitor = Visitor(store, tmp_path)
    assert [event async for event in visitor.export(Search())] == []
    assert await visitor.count(schema.ms_of(placed[-1][0]) + 1) == 0


async def test_an_index_of_another_past_is_left_alone(store: Store, tmp_path: Path, placed: Placed) -> None:
    await put(store, placed[1:])
    await build(store, tmp_path, steps=3)
    await store.client.delete(EVENTS)
    await put(store, placed[:-1])
    await agrees(store, tmp_path, placed[:-1], walked=range(COUNT - 1, COUNT))


async def test_a_damaged_index_is_read_as_far_as_that_goes(store: Store, tmp_path: Path, placed: Placed) -> None:
    await put(store, placed)
    await build(store, tmp_path, steps=3)
    await asyncio.to_thread(damage, tmp_path)
    await agrees(store, tmp_path, placed, walked=range(1, COUNT + 1))
    await asyncio.to_thread(file_in(tmp_path).write_bytes, b"no database" * 1_000)
    await agrees(store, tmp_path, placed, walked=range(COUNT, COUNT + 1))


def file_in(folder: Path) -> Path:
    return folder / "audit.sqlite3"


def damage(folder: Path) -> None:
    """Half of each page of the last two thirds is gone."""
    content = bytearray(file_in(folder).read_bytes())
    for page in range(len(content) // 4096 // 3, len(content) // 4096):
        content[page * 4096 : page * 4096 + 2048] = bytes(2048)
    file_in(folder).write_bytes(content)


async def test_an_index_of_another_version_is_left_alone(store: Store, tmp_path: Path, placed: Placed) -> None:
    await put(store, placed[:10])
    await build(store, tmp_path, steps=1)
    await asyncio.to_thread(give_version, tmp_path, schema.VERSION + 1)
    await agrees(store, tmp_path, placed[:10], walked=range(10, 11))


def give_version(folder: Path, version: int) -> None:
    with closing(sqlite3.connect(file_in(folder))) as connection:
        connection.execute(f"PRAGMA user_version = {version}")


async def test_a_tail_gives_what_arrives_in_order(store: Store, placed: Placed) -> None:
    await put(store, placed[:5])
    search = parse("outcome:refused", 0)
    tail = Visitor(store, None).tail(search)
    first = asyncio.ensure_future(anext(tail))
    while not await _waits(store):
        await asyncio.sleep(0)
    await put(store, placed[5:])
    wanted = naive.found([search], [event for _, event in placed[5:]])
    found = [await first] + [await anext(tail) for _ in wanted[1:]]
    assert [event.id for event in found] == wanted


async def _waits(store: Store) -> bool:
    return any(client["cmd"] == "xread" for client in await store.client.client_list())
