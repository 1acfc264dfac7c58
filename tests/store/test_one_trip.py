"""Two steps in one trip to Redis: what travels together, and what becomes of errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from immuproxy.ledger import keys
from immuproxy.ledger.content import Content
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.model import Step
from immuproxy.ledger.register import Register
from immuproxy.store.redis import LedgerUnavailableError, Store, connect
from tests.support.conversation import RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY = "team/app"
CONTENT = Content(digest=image("ours").digest, needs=frozenset({image("ours").digest}))


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    async with connect(redis_server.url, timeout=2.0) as connected:
        yield connected


@pytest.fixture
async def register(store: Store) -> Register:
    epoch = Epoch(store, quarantine=30)
    await epoch.list(REPOSITORY)
    return Register(store, epoch)


async def claim(register: Register, tag: str = "1.0") -> Step:
    return (await register.claim(REPOSITORY, tag, CONTENT, token="t", lease_ms=5000)).step


async def test_steps_that_redis_has_forgotten_are_sent_whole(store: Store, register: Register) -> None:
    assert await claim(register) is Step.CLAIMED
    await store.do(store.client.script_flush())
    assert await claim(register, "2.0") is Step.CLAIMED


async def test_the_error_of_either_step_is_told(store: Store, register: Register) -> None:
    await store.do(store.client.set(keys.tag(REPOSITORY, "1.0"), "no record"))
    with pytest.raises(LedgerUnavailableError, match="WRONGTYPE"):
        await claim(register)
    await store.do(store.client.delete(keys.REPOSITORIES))
    await store.do(store.client.set(keys.REPOSITORIES, "no set"))
    with pytest.raises(LedgerUnavailableError, match="WRONGTYPE"):
        await claim(register, "2.0")


def trips(edge: RunningEdge) -> float:
    found = [sample for metric in edge.metrics.redis_seconds.collect() for sample in metric.samples]
    return next(sample.value for sample in found if sample.name.endswith("_count"))


async def test_a_first_push_asks_redis_three_times(registry: RegistryServer, redis_server: RedisServer) -> None:
    """To look and claim, to arm, and to commit."""
    async with edge_over(registry.url, redis_server.url) as edge:
        await edge.client.push(REPOSITORY, "1.0", image("first"))
        await edge.client.blobs(REPOSITORY, image("second"))
        while edge.parts.blob_checks._ahead:
            await asyncio.sleep(0.01)
        before = trips(edge)
        assert (await edge.client.put(REPOSITORY, "2.0", image("second"))).status == 201
        assert trips(edge) - before == 3
