"""What keeps an index from being written or read is said, and waited out; it never counts as whole meanwhile."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from immuproxy.audit import index as index_module
from immuproxy.audit.index import IndexDamagedError, IndexFullError
from immuproxy.audit.record import Record
from immuproxy.audit.record.keys import EVENTS
from immuproxy.audit.record.rows import FIELDS
from immuproxy.audit.writing import Writer
from immuproxy.ledger.model import Event
from immuproxy.store.redis import Store
from tests.audit.following import followed
from tests.audit.made_up import START


def file_of(folder: Path) -> Path:
    (file,) = folder.glob("*.sqlite3")
    return file


async def test_a_file_that_another_program_has_locked_is_said_and_waited_for(
    store: Store, events: list[Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "_BUSY", 0.05)
    async with followed(store, tmp_path) as here:
        await here.until_all(120)
        with closing(sqlite3.connect(file_of(tmp_path), isolation_level=None)) as backup:
            backup.execute("BEGIN IMMEDIATE")
            await Record(store).append(replace(events[0], id="later", time=START + 10**10))
            await here.until(here.fails)
            assert await here.found() == events[::-1]
        await here.until_all(121)
        assert not (await here.audit.reach()).failure
        assert not here.told


async def test_a_fault_of_ours_is_said_too_for_as_long_as_it_lasts(
    store: Store, events: list[Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with followed(store, tmp_path, running=False) as here:

        def take(*_: object, **__: object) -> int:
            raise RuntimeError("a fault")

        def other(*_: object, **__: object) -> int:
            raise AssertionError

        with monkeypatch.context() as broken:
            broken.setattr(Writer, "take", take)
            with pytest.raises(RuntimeError):
                await here.follower.run()
            assert (await here.audit.reach()).failure == "a fault"
            again = asyncio.create_task(here.follower.run())  # as the proxy does; it is raised no more
            for _ in range(3):
                await here.follower.change(here.follower.seen)
            assert not again.done()
            broken.setattr(Writer, "take", other)
            with pytest.raises(AssertionError):
                await again
            assert (await here.audit.reach()).failure == "AssertionError()"


async def test_an_event_of_an_absurd_time_stops_nothing(store: Store, events: list[Event], tmp_path: Path) -> None:
    values = {"id": "absurd", "action": "push", "outcome": "created", "repository": "a/b", "tag": "v1"}
    values |= {"time": "9" * 18, "digest": "sha256:" + "0" * 64}
    written = "\x1f".join(values.get(name, "") for name in FIELDS)
    await store.client.xadd(EVENTS, {"event": written}, id=f"{events[-1].time + 1}-0")
    async with followed(store, tmp_path) as here:
        await here.until_all(121)
        assert (await here.found())[0].id == "absurd"


async def test_a_reader_that_could_not_open_the_file_tries_again(
    store: Store, events: list[Event], tmp_path: Path
) -> None:
    async with followed(store, tmp_path, running=False) as here:
        await here.follower.step()
        await here.audit.total()
        await here.index.begin_anew("a test")
        file = file_of(tmp_path)
        file.rename(tmp_path / "elsewhere")
        for _ in range(3):
            with pytest.raises(IndexDamagedError):
                await here.audit.total()
        (tmp_path / "elsewhere").rename(file)
        assert await here.audit.total() == 0


async def test_what_is_in_the_way_and_cannot_be_removed_stays_and_stops_nothing(
    store: Store, events: list[Event], tmp_path: Path
) -> None:
    in_the_way = tmp_path / "audit.sqlite3-journal"
    in_the_way.mkdir()
    async with followed(store, tmp_path) as here:
        await here.until_all(120)
        assert f"{tmp_path}: Is a directory" in here.index.place
    assert in_the_way.exists()


@pytest.mark.parametrize("code", ["SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_BUSY", "SQLITE_PERM", "SQLITE_IOERR"])
async def test_what_the_system_does_not_let_be_written_is_tried_again(store: Store, tmp_path: Path, code: str) -> None:
    def refused(_: Writer) -> None:
        error = sqlite3.OperationalError("not now")
        error.sqlite_errorcode = getattr(sqlite3, code)
        raise error

    async with followed(store, tmp_path, running=False) as here:
        with pytest.raises(IndexFullError):
            await here.index.write(refused)
