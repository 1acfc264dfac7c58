"""Two first writes to one repository at the same moment are no sign of a lost ledger."""

from __future__ import annotations

import asyncio
from typing import Any

from immuproxy.ledger import keys
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.redis import connect
from tests.servers import RedisServer


async def test_replies_in_another_order_than_the_requests_are_no_loss(redis_server: RedisServer) -> None:
    """Two connections: the one that listed the repository hears of it last."""
    async with connect(redis_server.url, timeout=1.0) as store:
        epoch = Epoch(store, quarantine=30)
        client: Any = store.client
        real, late = client.sadd, asyncio.Event()

        async def sadd(*arguments: Any) -> int:
            added = int(await real(*arguments))
            if added:
                await late.wait()
            return added

        client.sadd = sadd
        first = asyncio.create_task(epoch.list("team/app"))
        while not await client.exists(keys.REPOSITORIES):
            await asyncio.sleep(0.001)
        await epoch.list("team/app")
        late.set()
        await first
        assert epoch.recovering() == 0
        await client.delete(keys.REPOSITORIES)
        await epoch.list("team/app")
        assert epoch.recovering() > 25
