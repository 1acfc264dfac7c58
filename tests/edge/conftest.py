"""An edge in the test's own process, over a fresh registry and Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from immuproxy.service.assembly import Choices
from tests.support.conversation import RunningEdge, edge_over
from tests.support.servers import RedisServer, RegistryServer


@pytest.fixture
async def edge(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    async with edge_over(registry.url, redis_server.url) as running:
        yield running


@pytest.fixture(params=[60.0, 0.0], ids=["from memory", "by the registry"])
async def edge_either_way(
    request: pytest.FixtureRequest, registry: RegistryServer, redis_server: RedisServer
) -> AsyncIterator[RunningEdge]:
    """One that reads manifests from memory, and one that asks the registry for each."""
    choices = Choices(manifest_timeout=5.0, trust=lambda: request.param)
    async with edge_over(registry.url, redis_server.url, choices=choices) as running:
        yield running
