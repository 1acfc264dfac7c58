"""An edge in the test's own process, over a fresh registry and Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.conversation import RunningEdge, edge_over
from tests.support.servers import RedisServer, RegistryServer


@pytest.fixture
async def edge(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    async with edge_over(registry.url, redis_server.url) as running:
        yield running
