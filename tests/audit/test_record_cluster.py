"""The audit on a real cluster: outboxes on all nodes, the audit on one of them, which may be taken over (H108)."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest
import pytest_asyncio
from redis import Redis

from immuproxy.audit.pruning import prune
from immuproxy.audit.record import Projector, keys
from immuproxy.ledger.model import Event
from immuproxy.store.embedded import _bundled
from immuproxy.store.redis import Durability, Store, connect
from tests.audit.made_up import made_up_events
from tests.audit.recording import publish, recorded, waiting
from tests.support.clusters import cluster_url, master_of, started_cluster, take_over
from tests.support.servers import RedisServer, wait_until

START = 1_700_000_000_000
WAITING = Durability(replicas=1, timeout=1.0)

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The cluster client of redis-py leaves connections that it gave up on to the garbage collector."""


@pytest_asyncio.fixture
async def store(start_redis: Callable[..., RedisServer]) -> AsyncIterator[Store]:
    async with connect(cluster_url(started_cluster(start_redis, masters=2)), timeout=5) as opened:
        yield opened


async def test_each_event_is_taken_once_on_a_cluster(store: Store) -> None:
    events = list(made_up_events(150, repositories=12, start=START))
    await publish(store, *events)
    assert await Projector(store).sweep() == 150
    await check_each_is_recorded_once(store, events)
    assert [removed async for removed in prune(store, START + 10**13)][-1] == 150


# --- the audit's node and the one that takes over from it


@dataclass
class Nodes:
    """Three masters, and a replica of the one that has the audit."""

    servers: list[RedisServer]

    @property
    def url(self) -> str:
        """Through a master that has not the audit."""
        return cluster_url([server for server in self.servers[:3] if server is not self.audit])

    @property
    def audit(self) -> RedisServer:
        return self.servers[master_of("audit", 3)]

    @property
    def replica(self) -> RedisServer:
        return self.servers[3]


@pytest.fixture(params=["redis", "valkey"])
def nodes(request: pytest.FixtureRequest, start_redis: Callable[..., RedisServer]) -> Iterator[Nodes]:
    """Valkey and Redis from 7.2 on wait only for what a connection wrote itself, Redis before that for more."""
    binary = _bundled() if request.param == "valkey" else None
    yield Nodes(started_cluster(start_redis, masters=3, followed=[master_of("audit", 3)], binary=binary))
    gc.collect()


def some_events(first: int) -> list[Event]:
    """Of repositories on the other nodes: without its replica the audit's own acknowledges nothing."""
    made = made_up_events(60, seed=7, popularity=7, repositories=6, start=START + first, days=0.001, first=first)
    return [event for event in made if master_of(event.repository, 3) != master_of("audit", 3)]


def is_on_disk(server: RedisServer) -> bool:
    """A new replica keeps the file from before until it has written another."""
    with Redis(port=server.port) as client:
        found = client.info("persistence")
    return not (found["aof_rewrite_in_progress"] or found["aof_rewrite_scheduled"])


async def check_each_is_recorded_once(store: Store, events: Sequence[Event]) -> None:
    assert sorted(event.id for event in await recorded(store)) == sorted(event.id for event in events)


@pytest.mark.timeout(120)  # forms a cluster of four, and has one of them taken over
async def test_h108_what_the_audit_took_and_forgot_in_a_failover_is_taken_again(nodes: Nodes) -> None:
    kept, forgotten, later = some_events(0), some_events(100_000), some_events(200_000)
    async with connect(nodes.url, timeout=1, durability=WAITING) as store:
        projector = Projector(store)
        await publish(store, *kept)
        await projector.sweep()
        assert await waiting(store, kept) == 0
        wait_until(lambda: is_on_disk(nodes.replica), "the replica to write what it copied")
        nodes.replica.kill()
        await publish(store, *forgotten)
        assert await projector.sweep() == len(forgotten)
        assert await waiting(store, forgotten) == len(forgotten)
        await check_each_is_recorded_once(store, [*kept, *forgotten])
        assert await Projector(store).sweep() == 0
        assert await waiting(store, forgotten) == len(forgotten)
    nodes.audit.kill()
    nodes.replica.start()
    take_over(nodes.replica, nodes.servers)
    async with connect(nodes.url, timeout=1) as store:
        assert len(await recorded(store)) == len(kept)
        assert await Projector(store).sweep() == len(forgotten)
        assert await waiting(store, forgotten) == 0
        await check_each_is_recorded_once(store, [*kept, *forgotten])
        await publish(store, *later)
        assert await Projector(store).sweep() == len(later)
        await check_each_is_recorded_once(store, [*kept, *forgotten, *later])


async def test_h108_what_the_replica_has_after_all_is_neither_taken_twice_nor_left(nodes: Nodes) -> None:
    """Nor does a projector that found everything in the audit empty what another's writes brought there."""
    events, more = some_events(0), some_events(100_000)
    async with connect(nodes.url, timeout=1, durability=WAITING) as store:
        projector = Projector(store)
        nodes.replica.pause()
        await publish(store, *events)
        assert await projector.sweep() == len(events)
        await publish(store, *more)
        assert await projector.sweep() == len(more)
        async with connect(nodes.url, timeout=1, durability=WAITING) as other:
            assert await Projector(other).sweep() == 0
        assert await waiting(store, events) == len(events) + len(more)
        nodes.replica.resume()
        assert await projector.sweep() == 0
        assert await waiting(store, events) == 0
        await check_each_is_recorded_once(store, [*events, *more])


async def test_h108_an_outbox_stays_where_the_audit_went_back_in_between(store: Store) -> None:
    """Another node answers the question than the one that took the events."""
    events = some_events(0)
    names = sorted({event.repository for event in events})
    await publish(store, *events)
    projector = Projector(store)
    for name in names:
        await projector._take(name)
    await store.do(store.client.delete(keys.WATERMARK, keys.EVENTS))
    await projector._empty()
    assert projector.waiting == len(names)
    assert await waiting(store, events) == len(events)
