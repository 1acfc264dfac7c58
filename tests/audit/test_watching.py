"""How the index stands: nothing, behind, whole, and without Redis."""

from __future__ import annotations

from pathlib import Path

from immuproxy.audit.follow import BATCH
from immuproxy.audit.watching import Standing, standing
from immuproxy.ledger.redis import Store, connect
from tests.audit.following import followed
from tests.audit.made_up import fill, made_up_events
from tests.servers import RedisServer


async def test_how_the_index_stands(redis_server: RedisServer, tmp_path: Path) -> None:
    async with connect(redis_server.url, timeout=2.0) as store:
        await _stands(store, redis_server, tmp_path)


async def _stands(store: Store, redis_server: RedisServer, tmp_path: Path) -> None:
    events = list(made_up_events(2 * BATCH + 50, start=1_700_000_000_000))
    await fill(store, events[:20])
    async with followed(store, tmp_path, running=False) as here:
        assert await standing(here.audit, here.follower) == Standing()
        while await here.follower.step():
            pass
        assert await standing(here.audit, here.follower) == Standing(20, 0.0, whole=True)
    await fill(store, events[20:])
    async with followed(store, tmp_path, running=False) as here:
        before = await standing(here.audit, here.follower)
        assert (before.events, before.whole) == (20, False)
        await here.follower.step()
        after = await standing(here.audit, here.follower)
        assert (after.events, after.whole) == (20 + BATCH, False)
        assert before.lag > after.lag > 0
        redis_server.stop()
        assert await standing(here.audit, here.follower) == Standing(20 + BATCH, 0.0, whole=False)
