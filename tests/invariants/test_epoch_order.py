"""Two first writes to one repository at the same moment are no sign of a lost ledger."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from immuproxy.ledger import keys
from immuproxy.ledger.epoch import Epoch
from immuproxy.store.redis import connect
from tests.support.servers import RedisServer


async def test_replies_in_another_order_than_the_requests_are_no_loss(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two connections: the one that listed the repository hears of it last."""
    async with connect(redis_server.url, timeout=1.0) as store:
        epoch = Epoch(store, quarantine=30)
        client, late, replies = store.client, asyncio.Event(), 0
        real = store.durable_script

        async def held_up(*arguments: Any) -> Any:
            nonlocal replies
            reply, replies = await real(*arguments), replies + 1
            if replies == 1:
                await late.wait()
            return reply

        monkeypatch.setattr(store, "durable_script", held_up)
        first = asyncio.create_task(epoch.list("team/app"))
        while not replies:
            await asyncio.sleep(0.001)
        await epoch.list("team/app")
        late.set()
        await first
        assert epoch.recovering() == 0
        await client.delete(keys.REPOSITORIES)
        await epoch.list("team/app")
        assert epoch.recovering() > 25
