"""How the index stands: nothing, behind, whole, and without Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from immuproxy.audit import deadline, watching
from immuproxy.audit.follow import BATCH
from immuproxy.audit.index import IndexFullError
from immuproxy.audit.record import Record
from immuproxy.audit.watching import IndexState, standing
from immuproxy.audit.writing import Writer
from immuproxy.store.redis import Store, connect
from tests.audit.following import followed
from tests.audit.made_up import fill, made_up_events
from tests.support.servers import RedisServer


async def test_how_the_index_stands(redis_server: RedisServer, tmp_path: Path) -> None:
    async with connect(redis_server.url, timeout=2.0) as store:
        await _stands(store, redis_server, tmp_path)


async def _stands(store: Store, redis_server: RedisServer, tmp_path: Path) -> None:
    events = list(made_up_events(2 * BATCH + 50, start=1_700_000_000_000))
    await fill(store, events[:20])
    async with followed(store, tmp_path, running=False) as here:
        assert await standing(here.audit, here.follower) == IndexState()
        await here.catch_up()
        assert await standing(here.audit, here.follower) == IndexState(20, 0.0, whole=True)
    await fill(store, events[20:])
    async with followed(store, tmp_path, running=False) as here:
        before = await standing(here.audit, here.follower)
        assert (before.events, before.whole) == (20, False)
        await here.follower.step()
        after = await standing(here.audit, here.follower)
        assert (after.events, after.whole) == (20 + BATCH, False)
        assert before.lag > after.lag > 0
        redis_server.stop()
        assert await standing(here.audit, here.follower) == IndexState(20 + BATCH, 0.0, whole=False)


async def test_an_index_that_cannot_be_written_lags_behind(redis_server: RedisServer, tmp_path: Path) -> None:
    events = list(made_up_events(400, start=1_700_000_000_000))
    async with connect(redis_server.url, timeout=2.0) as store, followed(store, tmp_path) as here:
        await fill(store, events[:20])
        await here.until_all(20)

        def limit(writer: Writer) -> None:
            writer._connection.execute(f"PRAGMA max_page_count = {writer.pages()}")

        await here.index.write(limit)
        for event in events[20:]:
            await Record(store).append(event)

        async def full() -> bool:
            return isinstance(here.follower.failed, IndexFullError)

        await here.until(full)
        held = await here.audit.total()
        lag = (events[-1].time - events[held - 1].time) / 1000
        now = await standing(here.audit, here.follower)
        assert now == IndexState(held, now.lag, whole=False)
        assert now.lag == pytest.approx(lag, abs=1.0)


async def test_a_machine_too_busy_to_count_tells_nothing_until_it_can(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "EVERY", 0.01)
    told: asyncio.Queue[IndexState] = asyncio.Queue()
    async with connect(redis_server.url, timeout=2.0) as store, followed(store, tmp_path) as here:
        await fill(store, list(made_up_events(20, start=1_700_000_000_000)))
        await here.until_all(20)
        monkeypatch.setattr(deadline, "SECONDS", -1.0)
        looking = asyncio.create_task(watching.watch(here.audit, here.follower, told.put_nowait))
        try:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(told.get(), 0.2)
            monkeypatch.setattr(deadline, "SECONDS", 5.0)
            assert (await asyncio.wait_for(told.get(), 10)).events == 20
        finally:
            looking.cancel()
