"""With ``redis.wait`` no answer goes by what no replica has, whoever wrote it (H109).

Redis from 7.2 on and Valkey wait only for what a connection wrote itself: a step that finds everything written already
is confirmed at once.  So this is tried on Valkey.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import pytest
from redis import Redis

from immuproxy.store.embedded import _bundled
from immuproxy.store.redis import Durability
from tests.support.between import Request, between
from tests.support.conversation import Answer, RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer, wait_until

REPOSITORY = "team/app"
RULES = """
default: immutable
rules:
  - {name: moving, tags: [latest], policy: mutable}
  - {name: mortal, tags: [mortal], policy: immutable, delete: allow}
"""


@dataclass
class Pair:
    """A master and its replica."""

    master: RedisServer
    replica: RedisServer

    def freeze(self) -> None:
        """The replica, once it has confirmed all that was written so far: it does so once a second."""
        wait_until(self._is_confirmed, "the replica to confirm")
        self.replica.pause()

    def _is_confirmed(self) -> bool:
        with Redis.from_url(self.master.url) as client:
            found = client.info("replication")
        return bool(found["slave0"]["offset"] == found["master_repl_offset"])


@pytest.fixture
def pair(start_redis: Callable[..., RedisServer]) -> Iterator[Pair]:
    master, replica = (start_redis(binary=_bundled(), more={"repl-diskless-sync-delay": "0"}) for _ in range(2))
    with Redis.from_url(replica.url) as client:
        client.replicaof("127.0.0.1", master.port)
        wait_until(lambda: client.info("replication").get("master_link_status") == "up", "the replica to follow")
    yield Pair(master, replica)
    replica.resume()  # a master that ends waits for it


@pytest.fixture
async def edge(registry: RegistryServer, pair: Pair) -> AsyncIterator[RunningEdge]:
    """It waits for the replica, and its connections have written already what the replica has."""
    durability = Durability(replicas=1, timeout=0.3)
    async with edge_over(registry.url, pair.master.url, rules=RULES, durability=durability) as running:
        for tag in ("0.9", "latest"):
            assert (await running.client.push(REPOSITORY, tag, image("one"))).status == 201
        yield running


async def test_h109_the_same_content_again_is_answered_when_a_replica_has_it(
    registry: RegistryServer, pair: Pair, edge: RunningEdge
) -> None:
    pair.freeze()
    async with edge_over(registry.url, pair.master.url, rules=RULES) as careless:
        assert (await careless.client.push(REPOSITORY, "1.0", image("one"))).status == 201
    assert (await edge.client.push(REPOSITORY, "1.0", image("one"))).status == 503
    pair.replica.resume()
    assert (await edge.client.push(REPOSITORY, "1.0", image("one"))).status == 201


async def test_h109_a_refusal_is_answered_when_a_replica_has_its_event(pair: Pair, edge: RunningEdge) -> None:
    pair.freeze()
    assert (await edge.client.push(REPOSITORY, "0.9", image("two"))).status == 503
    pair.replica.resume()
    assert (await edge.client.push(REPOSITORY, "0.9", image("two"))).status == 409


async def test_h109_no_push_of_a_moving_tag_is_sent_whose_intent_no_replica_has(pair: Pair, edge: RunningEdge) -> None:
    pair.freeze()
    assert (await edge.client.push(REPOSITORY, "latest", image("two"))).status == 503
    pair.replica.resume()
    assert (await edge.direct.pull(REPOSITORY, "latest")).digest == image("one").digest
    assert (await edge.client.push(REPOSITORY, "latest", image("two"))).status == 201


async def test_h109_a_delete_is_answered_when_a_replica_knows_that_the_tag_is_gone(
    registry: RegistryServer, pair: Pair
) -> None:
    """Else it would be healed back after a failover."""
    durability, gone = Durability(replicas=1, timeout=0.3), image("gone")

    async def act(request: Request) -> Answer:
        answer = await request.forward()
        if request.method == "DELETE" and request.target.endswith(gone.digest):
            pair.freeze()
        return answer

    async with (
        between(registry.url, act) as relay,
        edge_over(relay.url, pair.master.url, rules=RULES, durability=durability) as edge,
    ):
        assert (await edge.client.push(REPOSITORY, "mortal", gone)).status == 201
        assert (await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{gone.digest}")).status == 503
        pair.replica.resume()
        assert (await edge.client.pull(REPOSITORY, "mortal")).status == 404
        assert (await edge.client.push(REPOSITORY, "mortal", gone)).status == 409
