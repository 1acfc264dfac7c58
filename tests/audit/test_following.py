"""The index follows the stream: at once, completely, and never with another past than the stream has."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from immuproxy.audit import follow, schema, stream, views
from immuproxy.audit.index import Index, IndexDamagedError, IndexFullError
from immuproxy.audit.pruning import prune
from immuproxy.audit.record import Record
from immuproxy.audit.record.keys import EVENTS
from immuproxy.audit.search import Search, parse
from immuproxy.audit.writing import Writer
from immuproxy.ledger.model import Event
from immuproxy.store.redis import LedgerUnavailableError, Store
from tests.audit.following import followed
from tests.audit.made_up import START, fill, made_up_events
from tests.support.servers import RedisServer


def some(count: int, **options: int) -> list[Event]:
    return list(made_up_events(count, repositories=40, start=START, **options))


async def test_all_events_are_there_newest_first_and_new_ones_within_a_tenth_of_a_second(
    store: Store, tmp_path: Path
) -> None:
    events = some(1_300)
    await fill(store, events)
    async with followed(store, tmp_path / "index") as here:
        await here.until_all(1_300)
        assert await here.found() == events[::-1]
        waits = []
        for number in range(5):
            late = replace(events[0], id=f"new-{number}", time=START + 10**9 + number)
            arrival = asyncio.ensure_future(anext(here.audit.tail(Search(), after=await here.audit.end())))
            await asyncio.sleep(0)
            begun = time.monotonic()
            await Record(store).append(late)
            assert (await arrival).event == late
            waits.append(time.monotonic() - begun)
        assert min(waits[1:]) < 0.1  # each of them comes while what comes is gathered
        assert not here.told + here.failures


async def test_what_comes_in_a_burst_is_asked_for_together(store: Store, tmp_path: Path) -> None:
    events = some(110)
    await fill(store, events[:10])
    async with followed(store, tmp_path) as here:
        await here.until_all(10)
        await store.client.config_resetstat()
        begun = time.monotonic()
        for event in events[10:]:
            await Record(store).append(event)
        await here.until_all(110)
        looks = (time.monotonic() - begun) / follow.GATHERED + 1
        counted = await store.client.info("commandstats")
        assert sum(counted[f"cmdstat_{name}"]["calls"] for name in ("xread", "xrange")) <= 2 * looks + 5


async def test_while_it_is_built_the_newest_are_found_and_it_says_how_far_back_it_reaches(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "BATCH", 100)
    events = some(350)
    await fill(store, events)
    async with followed(store, tmp_path, running=False) as here:
        assert (await here.audit.reach()).since is None
        await here.follower.step()
        reach = await here.audit.reach()
        assert (reach.since, reach.complete) == (events[-100].time, False)
        page = await here.audit.events(Search(), limit=1_000)
        assert (list(page.events), page.complete) == (events[:-101:-1], False)
        await here.catch_up()
        rest = await here.audit.events(Search(), limit=1_000, cursor=page.next_cursor)
        assert (list(rest.events), rest.complete, rest.next_cursor) == (events[-101::-1], True, "")
        assert (await here.audit.reach()).complete


async def test_an_export_waits_for_what_is_still_being_built(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "BATCH", 50)
    events = some(600)
    await fill(store, events)
    async with followed(store, tmp_path) as here:
        assert await here.found() == events[::-1]


async def test_what_was_pruned_goes_and_the_rest_is_as_if_built_from_it(store: Store, tmp_path: Path) -> None:
    events = some(800)
    await fill(store, events)
    async with followed(store, tmp_path / "one") as here:
        await here.until_all(800)
        async for _ in prune(store, events[500].time):
            pass
        await here.until_all(300)
        async with followed(store, tmp_path / "two") as anew:
            await anew.until_all(300)
            assert await here.found() == await anew.found() == events[:499:-1]
            chart = partial(views.chart, field="attempt", since=START, until=events[-1].time + 1, buckets=7)
            for one, two in ((here.audit, anew.audit), (anew.audit, here.audit)):
                assert await one.ask(chart) == await two.ask(chart)
                assert await one.repositories() == await two.repositories()
                names = [each.repository for each in (await one.repositories(limit=100)).repositories]
                assert [await one.tags(name) for name in names] == [await two.tags(name) for name in names]
            assert await here.index.read(_sizes) == await anew.index.read(_sizes)


def _sizes(connection: sqlite3.Connection) -> list[int]:
    """Rows of the tables that pruning shrinks."""
    tables = ("events", "uses", "counts", "tags", "trigrams_docsize")
    return [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]


async def test_another_past_of_redis_is_noticed_and_the_index_built_anew(
    store: Store, redis_server: RedisServer, tmp_path: Path
) -> None:
    await fill(store, some(300))
    async with followed(store, tmp_path) as here:
        await here.until_all(300)
        await store.client.flushall()
        others = some(120, seed=9)
        await fill(store, others)
        await here.until_all(120)
        assert await here.found() == others[::-1]
        assert here.told == ["the audit's index is built anew: the stream of events is another one than before"]


async def test_redis_away_is_waited_out_and_searches_go_on(
    store: Store, redis_server: RedisServer, tmp_path: Path
) -> None:
    events = some(50)
    await fill(store, events)
    async with followed(store, tmp_path) as here:
        await here.until_all(50)
        redis_server.stop()

        async def failed() -> bool:
            return bool((await here.audit.reach()).failure)

        await here.until(failed)
        assert (await here.audit.events(Search(), limit=2)).events == tuple(events[:-3:-1])
        with pytest.raises(LedgerUnavailableError):
            await anext(here.audit.tail(Search()))
        redis_server.start()
        await Record(store).append(replace(events[0], id="later", time=START + 10**9))
        await here.until_all(51)


@pytest.mark.parametrize("spoil", ["version", "rubbish", "middle"])
async def test_a_file_that_is_no_index_of_this_version_is_built_anew_and_that_is_said(
    store: Store, tmp_path: Path, spoil: str
) -> None:
    events = some(900)
    await fill(store, events)
    async with followed(store, tmp_path) as here:
        await here.until_all(900)
    (file,) = list(tmp_path.glob("*.sqlite3"))  # noqa: ASYNC240  # nothing else runs
    if spoil == "version":
        with sqlite3.connect(file) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
    elif spoil == "rubbish":
        file.write_bytes(b"no database at all" * 1_000)
    else:
        size = file.stat().st_size
        with file.open("r+b") as opened:
            opened.seek(size // 3)
            opened.write(b"\xff" * (size // 3))
    async with followed(store, tmp_path) as here:
        with suppress(IndexDamagedError):
            await here.found()
        await Record(store).append(replace(events[0], id="later", time=START + 10**9))
        await here.until_whole(901)
        assert len(await here.found()) == 901
        assert any("built anew" in line for line in here.told)


async def test_it_goes_on_where_it_was_without_reading_all_again(store: Store, tmp_path: Path) -> None:
    events = some(300)
    await fill(store, events)
    async with followed(store, tmp_path) as here:
        await here.until_all(300)
    await Record(store).append(replace(events[0], id="later", time=START + 10**9))
    async with followed(store, tmp_path, running=False) as here:
        assert len(await here.found()) == 300
        await here.follower.step()
        assert [event.id for event in await here.found()][:2] == ["later", events[-1].id]
        assert not here.told


async def test_killed_at_any_moment_it_is_late_and_never_wrong(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a kill leaves is the files as they are at that moment."""
    monkeypatch.setattr(follow, "BATCH", 60)
    events = some(700)
    await fill(store, events)
    async with followed(store, tmp_path / "one") as here:
        for number in range(4):
            await here.follower.change(here.follower.seen)
            shutil.copytree(tmp_path / "one", tmp_path / f"left-{number}")
    for number in range(4):
        async with followed(store, tmp_path / f"left-{number}") as again:
            await again.until_all(700)
            assert await again.found() == events[::-1]


async def test_a_full_disk_makes_it_late_and_nothing_is_lost(store: Store, tmp_path: Path) -> None:
    events = some(1_500)
    await fill(store, events)
    async with followed(store, tmp_path, running=False) as here:
        await here.follower.step()

        def limit(writer: Writer, pages: int) -> None:
            writer._connection.execute(f"PRAGMA max_page_count = {pages}")

        await here.index.write(lambda writer: limit(writer, writer.pages() + 5))
        with pytest.raises(IndexFullError, match=f"{tmp_path}: no space left"):
            for _ in range(20):
                await here.follower.step()
        page = await here.audit.events(Search(), limit=2_000)
        assert list(page.events) == events[: -len(page.events) - 1 : -1]
        assert not page.complete
        await here.index.write(lambda writer: limit(writer, 10**6))
        await here.catch_up()
        assert await here.found() == events[::-1]


async def test_a_disk_that_is_full_while_the_index_is_built_is_not_called_mended(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not committed may find room, and is lost with the next batch that does not."""
    monkeypatch.setattr(follow, "BATCH", 50)
    await fill(store, some(2_000))
    async with followed(store, tmp_path, running=False) as here:
        while await here.audit.total() < 1_000:
            await here.follower.step()

        def limit(writer: Writer) -> None:
            writer._connection.execute(f"PRAGMA max_page_count = {writer.pages() + 30}")

        await here.index.write(limit)
        follows = asyncio.create_task(here.follower.run())
        failed = 0
        while failed < 20:
            await here.follower.change(here.follower.seen)
            failed += here.follower.failed is not None
        follows.cancel()
        with suppress(asyncio.CancelledError):
            await follows
        assert (len(here.failures), here.failures.over) == (2, 1)  # there was room for a batch or two


async def test_an_index_that_is_begun_anew_shows_what_it_has_as_soon_as_a_first_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "BATCH", 50)
    await fill(store, some(1_000))
    async with followed(store, tmp_path, running=False) as here:
        await here.catch_up()
        await here.index.begin_anew("a test")
        await here.follower.step()
        await here.follower.step()
        assert await here.audit.total() == 100


async def test_an_empty_index_that_was_whole_is_not_so_before_it_has_looked_again(store: Store, tmp_path: Path) -> None:
    async with followed(store, tmp_path, running=False) as here:
        await here.follower.step()
        assert (await here.audit.reach()).complete
    await fill(store, some(10))
    async with followed(store, tmp_path, running=False) as here:
        assert not (await here.audit.reach()).complete
        await here.follower.step()
        assert (await here.audit.reach()).complete


async def test_in_memory_it_is_bounded_and_an_export_says_that_it_is_not_all(store: Store) -> None:
    events = some(3_000)
    await fill(store, events)
    async with followed(store, None, running=False, memory_bytes=2 << 20) as here:
        await here.catch_up()
        assert here.follower.bounded
        found = list[Event]()
        with pytest.raises(IndexFullError):
            async for event in here.audit.export(Search()):
                found.append(event)
        assert 500 <= len(found) < 3_000
        assert not (await here.audit.events(Search(), limit=5_000)).complete
        more = [replace(event, id=f"more-{event.id}", time=event.time + 10**10) for event in events]
        for event in more[::2]:
            await Record(store).append(event)
        await here.catch_up()
        newest = [event.id for event in more[::2]][::-1]
        assert [event.id for event in (await here.audit.events(Search(), limit=400)).events] == newest[:400]


async def test_a_folder_that_cannot_be_used_means_memory_and_that_is_said(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    async with followed(store, tmp_path / "file" / "index", running=False) as here:
        assert here.index.in_memory
        assert "in memory" in here.index.place
    async with (
        followed(store, tmp_path / "shared", running=False),
        followed(store, tmp_path / "shared", running=False) as second,
    ):
        assert second.index.in_memory


@pytest.mark.parametrize("spoilt", [b"\xff", b"\x1f".join([b"id", b"push", b"created", b"when?"])])
async def test_what_is_no_event_is_left_out_and_what_stands_beside_it_is_found(
    store: Store, tmp_path: Path, spoilt: bytes
) -> None:
    events = some(30)
    await fill(store, events)
    await store.client.xadd(EVENTS, {"event": spoilt}, id=f"{events[-1].time + 1}-0")
    async with followed(store, tmp_path) as here:
        await here.until_all(30)
        assert await here.found() == events[::-1]


async def test_two_proxies_answer_the_same_and_take_each_others_cursors(store: Store, tmp_path: Path) -> None:
    events = some(900)
    await fill(store, events)
    search = parse("-outcome:failed team", START)
    async with followed(store, tmp_path / "one") as one, followed(store, None) as two:
        await one.until_all(900)
        await two.until_all(900)
        here, there, cursor = one, two, ""
        pages: list[Event] = []
        while True:
            page = await here.audit.events(search, limit=100, cursor=cursor)
            assert replace(page, live_cursor="") == replace(
                await there.audit.events(search, limit=100, cursor=cursor), live_cursor=""
            )
            pages += page.events
            cursor, here, there = page.next_cursor, there, here
            if not cursor:
                break
        assert pages == await one.found(search)


def test_places_are_the_ids_of_the_stream() -> None:
    assert stream._id(schema.place_of(12, 7)) == "12-7"
    assert stream._place(b"12-7") == schema.place_of(12, 7)


async def test_an_export_that_began_before_an_empty_index_was_known_to_be_whole_ends(store: Store) -> None:
    async with followed(store, None, running=False) as found:
        waiting = asyncio.create_task(found.found())
        await found.audit.total()  # behind the first step of the export
        await asyncio.sleep(0)
        await found.follower.step()
        async with asyncio.timeout(5):
            assert await waiting == []


async def test_an_export_that_waits_hears_that_there_is_no_room_for_the_rest(store: Store) -> None:
    await fill(store, some(4_000))
    async with followed(store, None, running=False, memory_bytes=1 << 20) as found:
        waiting = asyncio.create_task(found.found())
        while not found.follower.bounded:
            await found.follower.step()
        async with asyncio.timeout(5):
            with pytest.raises(IndexFullError):
                await waiting


async def test_who_waits_hears_that_redis_is_back(store: Store, redis_server: RedisServer) -> None:
    await fill(store, some(10))
    async with followed(store, None) as found:
        await found.until_all(10)
        redis_server.stop()

        async def fails(wanted: bool) -> bool:
            return bool((await found.audit.reach()).failure) is wanted

        await found.until(lambda: fails(wanted=True))
        redis_server.start()
        await found.until(lambda: fails(wanted=False))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process has one priority")
async def test_threads_of_the_index_give_way_to_pulls_and_pushes(store: Store, tmp_path: Path) -> None:
    def priority(_: object) -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    mine = priority(None)
    async with followed(store, tmp_path, running=False) as here:
        assert await here.index.read(priority) == await here.index.write(priority) == 10
        assert priority(None) == mine


async def test_questions_wait_until_the_index_is_open_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index(tmp_path)
    asked = asyncio.create_task(index.read(lambda connection: connection.execute("SELECT complete FROM state")))
    await asyncio.sleep(0)
    await index.open()
    await asked
    await index.open()  # once more does nothing
    await index.close()
    monkeypatch.setattr("immuproxy.audit.index.OPENING", 0.01)
    with pytest.raises(IndexDamagedError):
        await Index(tmp_path).read(lambda connection: connection.total_changes)
