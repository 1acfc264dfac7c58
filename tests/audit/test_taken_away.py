"""The files of the index are taken away, or cannot be made, while a proxy runs: it is noticed, said, and mended."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from immuproxy.audit import index as index_module
from immuproxy.audit.index import Index, IndexDamagedError, IndexFullError
from immuproxy.audit.pruning import prune
from immuproxy.audit.record import Record
from immuproxy.ledger.model import Event
from immuproxy.store.redis import Store
from tests.audit.following import followed
from tests.audit.made_up import START, made_up_events


def remove_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def remove_file(folder: Path) -> None:
    (folder / "audit.sqlite3").unlink()


def remove_log(folder: Path) -> None:
    (folder / "audit.sqlite3-wal").unlink()


def remove_lock(folder: Path) -> None:
    (folder / "lock").unlink()


def replace_file(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "another")) as connection:
        connection.execute("CREATE TABLE others (anything)")
    (folder / "another").rename(folder / "audit.sqlite3")


@pytest.mark.parametrize("take_away", [remove_folder, remove_file, remove_log, remove_lock, replace_file])
async def test_files_that_are_taken_away_under_a_running_proxy_are_made_anew(
    store: Store, events: list[Event], tmp_path: Path, take_away: Callable[[Path], None]
) -> None:
    folder = tmp_path / "index"
    async with followed(store, folder) as here:
        await here.until_all(120)
        take_away(folder)

        async def said() -> bool:
            return bool(here.told)

        await here.until(said)
        await Record(store).append(replace(events[0], id="later", time=START + 10**10))
        await here.until_all(121)
        assert [event.id for event in await here.found()] == ["later", *(event.id for event in reversed(events))]
        assert here.told == ["the audit's index is built anew: its file was removed or replaced"]
        assert not here.failures
    async with followed(store, folder, running=False) as again:
        assert await again.audit.total() == 121
        assert not again.told


async def test_a_folder_that_takes_no_file_is_said_once_by_its_name_and_used_as_soon_as_it_does(
    store: Store, events: list[Event], tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    async with followed(store, folder) as here:
        await here.until_all(120)
        shutil.rmtree(folder)
        folder.write_text("in the way")

        async def failed() -> bool:
            return here.follower.failed is not None

        await here.until(failed)
        with pytest.raises(IndexDamagedError, match=str(folder)):
            await here.audit.reach()
        for _ in range(3):
            await here.follower.change(here.follower.seen)  # it is tried again
        folder.unlink()
        await here.until_whole(120)
        assert len(here.told) == len(here.failures) == 1
        assert str(folder) in str(here.failures[0])
        assert here.failures.over == 1


async def test_the_log_is_cut_down_when_a_long_reader_has_gone(
    store: Store, events: list[Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "LOG_BYTES", 64 << 10)
    log = tmp_path / "audit.sqlite3-wal"
    async with followed(store, tmp_path, running=False) as here:
        await here.follower.step()
        with closing(sqlite3.connect(tmp_path / "audit.sqlite3", isolation_level=None)) as backup:
            backup.execute("BEGIN")
            backup.execute("SELECT count(*) FROM events").fetchone()
            for number, event in enumerate(made_up_events(2_000, start=START + 10**10, days=1)):
                await Record(store).append(event)
                if number % 100 == 99:
                    await here.follower.step()
            assert log.stat().st_size > 4 << 20
        async for _ in prune(store, START + 10**10 + 1):
            pass
        for _ in range(3):
            await Record(store).append(replace(events[0], id=f"later-{_}", time=START + 10**11 + _))
            await here.follower.step()
        assert log.stat().st_size < 1 << 20


@contextmanager
def closed_to_us(folder: Path) -> Iterator[None]:
    """Nobody may look into the folder; root may look everywhere, and is another user meanwhile."""
    user = os.geteuid()
    folder.chmod(0)
    if user == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(0o700)


@pytest.mark.blocking_allowed  # the test itself opens and closes the folder
async def test_a_folder_that_may_not_be_looked_into_is_said_and_ends_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    index = Index(folder)
    await index.open()
    with closed_to_us(folder), pytest.raises(IndexFullError, match=f"{folder}: Permission denied"):
        await index.look_after()
    await index.look_after()
    assert index.begun == 1
    await index.close()


async def test_what_others_keep_in_the_folder_stays_when_the_index_is_built_anew(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    index = Index(folder)
    await index.open()
    others = [folder / name for name in ("audit.sqlite3.bak", "audit-2026.sqlite3", "auditors.sqlite3")]
    for path in others:
        path.write_text("somebody's")
    await index.begin_anew("a test")
    assert [path.read_text() for path in others] == ["somebody's"] * 3
    await index.close()


async def test_a_folder_that_was_emptied_and_then_taken_by_another_proxy_leaves_memory(
    store: Store, events: list[Event], tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    async with followed(store, folder, running=False) as here:
        await here.catch_up()
        assert await here.audit.total() == 120
        shutil.rmtree(folder)
        async with followed(store, folder) as other:
            await other.until_all(120)
            await here.catch_up()
            assert here.index.in_memory
            assert here.told == [
                "the audit's index is built anew: its file was removed or replaced",
                f"the audit's index is kept {here.index.place}",
            ]
            assert "another program uses it" in here.index.place
            assert await here.found() == await other.found() == events[::-1]
            assert other.index.place == f"in {folder}"
            assert not other.told


async def test_a_sqlite_that_is_too_old_is_said_and_stops_nothing_else(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 33, 0))
    async with followed(store, tmp_path) as here:

        async def failed() -> bool:
            return here.follower.failed is not None

        await here.until(failed)
        with pytest.raises(IndexFullError, match=r"is too old: 3\.34 is needed"):
            await here.audit.total()
        assert len(here.failures) == 1


async def test_a_folder_is_not_let_go_while_its_index_is_built_anew(tmp_path: Path) -> None:
    index, second = Index(tmp_path), Index(tmp_path)
    await index.open()

    claim = index._claim

    def claim_second() -> None:
        second._open()
        claim()

    index._claim = claim_second  # type: ignore[method-assign]
    await index.begin_anew("a test")
    assert second.in_memory
    assert index.place == f"in {tmp_path}"
    await second.close()
    await index.close()
