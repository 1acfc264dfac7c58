"""The audit on a real cluster of two nodes: outboxes on both, the audit on one of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

import pytest_asyncio
from redis import Redis

from immuproxy.ledger import keys
from immuproxy.ledger.audit import Audit, Projector
from immuproxy.ledger.redis import Store, connect
from immuproxy.ledger.search import Search, parse
from tests.ledger.audit_events import made_up_events
from tests.servers import RedisServer, wait_until

START = 1_700_000_000_000


def is_whole(server: RedisServer) -> bool:
    with Redis(port=server.port) as client:
        return bool(client.cluster("INFO")["cluster_state"] == "ok")


@pytest_asyncio.fixture
async def store(start_redis: Callable[..., RedisServer]) -> AsyncIterator[Store]:
    servers = [start_redis(more={"cluster-enabled": "yes", "cluster-node-timeout": "2000"}) for _ in range(2)]
    for server, slots in zip(servers, ((0, 8191), (8192, 16383)), strict=True):
        with Redis(port=server.port) as client:
            client.cluster("ADDSLOTSRANGE", *slots)
            client.cluster("MEET", "127.0.0.1", servers[0].port)
    wait_until(lambda: all(is_whole(server) for server in servers), "the cluster to form")
    async with connect(f"redis+cluster://127.0.0.1:{servers[0].port}", timeout=5) as opened:
        yield opened


async def test_everything_works_on_a_cluster(store: Store) -> None:
    events = list(made_up_events(150, repositories=12, start=START))
    for event in events:
        await store.do(store.client.sadd(keys.REPOSITORIES, event.repository))
        await store.do(store.client.xadd(keys.outbox(event.repository), {"event": json.dumps(event.to_dict())}))
    assert await Projector(store).sweep() == 150
    audit = Audit(store)
    assert {event.id async for event in audit.export(Search())} == {event.id for event in events}
    page = await audit.events(parse("repo:team-*/** outcome:refused", START))
    assert {event.id for event in page.events} == {event.id for event in events if event.outcome == "refused"}
    assert (await audit.counts(START, START + 10**11, 3)).series
    assert await audit.top("tag", since=START, until=START + 10**10, outcome="refused")
    assert (await audit.repositories()).matching == len({event.repository for event in events})
    assert (await audit.roster(events[0].repository)).tags
    assert await audit.facet_values("tag", events[0].tag, repository=events[0].repository)
    assert await audit.event(events[3].id) == events[3]
    assert [progress async for progress in audit.prune(START + 10**13)][-1].removed == 150
