"""A process that keeps an index is killed at any moment, by the kernel: the index that is left is late, never wrong."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from contextlib import closing
from itertools import islice
from pathlib import Path

from immuproxy.audit import follow, schema
from immuproxy.audit.follow import Follower
from immuproxy.audit.index import Index, look_in
from immuproxy.audit.record import Record
from immuproxy.audit.search import Search
from immuproxy.ledger.model import Event
from immuproxy.store.redis import connect
from tests.audit.following import followed
from tests.audit.made_up import fill, made_up_events
from tests.support.servers import RedisServer

KILLS = int(os.environ.get("IMMUPROXY_KILLS", "4"))
"""More for a longer run, such as 50."""

MOST = 60
"""Events that arrive before a kill, at most."""


async def test_h127_killed_again_and_again_while_events_arrive_the_index_is_late_and_never_wrong(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    events, chance = list(made_up_events(2_000, repositories=40)), random.Random(1)
    later = made_up_events(MOST * KILLS, repositories=40, start=events[-1].time + 1, first=2_000)
    async with connect(redis_server.url, timeout=2) as store:
        await fill(store, events)
        for _ in range(KILLS):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.audit.test_killed", redis_server.url, str(tmp_path)),
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdout is not None
            await process.stdout.readline()  # it is open
            for event in islice(later, chance.randrange(MOST)):
                await Record(store).append(event)
                events.append(event)
            process.kill()
            await process.wait()
            await asyncio.to_thread(_is_sound, tmp_path)
            async with followed(store, tmp_path, running=False) as left:
                _is_a_part(list((await left.audit.events(Search(), limit=5_000)).events), events)
                assert not left.told
        async with followed(store, tmp_path) as here:
            await here.until_all(len(events))
            assert await here.found() == events[::-1]
            assert not here.told


def _is_sound(folder: Path) -> None:
    connection = look_in(folder)
    assert connection is not None
    with closing(connection):
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (events,) = connection.execute("SELECT count(*) FROM events").fetchone()
        (counted,) = connection.execute(
            "SELECT coalesce(sum(n), 0) FROM counts WHERE kind = ? AND unit = ?", (schema.ATTEMPTS, schema.WEEK)
        ).fetchone()
        assert events == counted


def _is_a_part(found: list[Event], events: list[Event]) -> None:
    """Events without a gap, newest first."""
    if found:
        end = events.index(found[0]) + 1
        assert found == events[end - len(found) : end][::-1]


async def keep(url: str, folder: Path) -> None:
    """An index that follows until it is killed; a line says that it is open."""
    follow.BATCH = 60
    async with connect(url, timeout=2) as store:
        index = Index(folder)
        await index.open()
        sys.stdout.write("\n")
        sys.stdout.flush()
        await Follower(store, index).run()


if __name__ == "__main__":
    asyncio.run(keep(sys.argv[1], Path(sys.argv[2])))
