"""Whether the parts answer, asked by many at once."""

from __future__ import annotations

import asyncio

from immuproxy.ledger.safety import Safety
from immuproxy.service.health import Health
from immuproxy.telemetry.metrics import Metrics
from tests.support.conversation import edge_over
from tests.support.servers import RedisServer
from tests.support.wire import scripted


async def test_h88_many_who_ask_at_once_ask_the_parts_once(redis_server: RedisServer) -> None:
    """Anybody may ask whether the proxy is ready, and each question could take a connection to both."""
    async with (
        scripted(lambda exchange: exchange.answer(200)) as upstream,
        edge_over(upstream.url, redis_server.url) as edge,
    ):
        safety = Safety(edge.store, strict=False)
        await safety.look()
        health = Health(safety, edge.parts.epoch.clock, edge.parts.edge._upstream, Metrics())
        first, *others = await asyncio.gather(*(health.parts() for _ in range(50)))
        assert all(part.ok for part in first)
        assert all(other == first for other in others)
        assert len(upstream.requests) == 1
        await health.parts()
        assert len(upstream.requests) == 2, "what was said before is not said again"
        assert not health.last, "nothing was looked at yet"
        await health.check()
        assert list(health.last) == list(first)
        assert len(upstream.requests) == 3
