"""The ledger on every form of Redis that ``redis.url`` may name, each a real one."""

from __future__ import annotations

import asyncio
import gc
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.asyncio import RedisCluster
from redis.crc import key_slot

from immuproxy.edge import record
from immuproxy.ledger import keys
from immuproxy.ledger.content import Content
from immuproxy.ledger.model import Action, Outcome, Step
from immuproxy.store.embedded import running
from immuproxy.store.redis import Durability, LedgerUnavailableError, ProxyOverloadedError, connect
from immuproxy.store.tls import READ_EVERY
from tests.support.clusters import (
    SLOTS,
    cluster_settings,
    cluster_url,
    is_whole,
    master_of,
    started_cluster,
    take_over,
    wait_until_whole,
)
from tests.support.conversation import Answer, Image, RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer, wait_until


async def push_and_refuse(registry: RegistryServer, url: str, durability: Durability | None = None) -> None:
    """The whole protocol once: first push, refusal, what the ledger says afterwards, and many who ask at once (H82)."""
    async with edge_over(registry.url, url, durability=durability) as edge:
        first = image("one")
        assert (await edge.client.push("team/app", "1.0", first)).status == 201
        assert (await edge.client.push("team/app", "1.0", image("two"))).status == 409
        assert (await edge.client.pull("team/app", "1.0")).digest == first.digest
        assert len(await edge.events("team/app")) == 2
        assert (await edge.store.information())["redis_version"]
        found = await asyncio.gather(*(edge.parts.register.read("team/app", "1.0") for _ in range(300)))
        assert {record.committed.digest for record in found if record.committed} == {first.digest}


async def test_tcp_with_a_password(registry: RegistryServer, start_redis: Callable[..., RedisServer]) -> None:
    await push_and_refuse(registry, start_redis(password="secret").url)


async def test_a_unix_socket(registry: RegistryServer, redis_server: RedisServer) -> None:
    await push_and_refuse(registry, redis_server.unix_url)


async def test_tls(registry: RegistryServer, start_redis: Callable[..., RedisServer]) -> None:
    server = start_redis(tls=True)
    await push_and_refuse(registry, f"{server.url}?ssl_ca_certs={server.ca_path}")


@pytest.mark.parametrize("form", ["single", "cluster"])
async def test_h131_a_burst_over_tls_reads_the_authorities_once(
    start_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Once more where ten seconds end meanwhile."""
    in_cluster = {**cluster_settings(), "tls-cluster": "yes"} if form == "cluster" else {}
    server, made = start_redis(tls=True, more=in_cluster), list[ssl.SSLContext]()
    authority, create = f"ssl_ca_certs={server.ca_path}", ssl.create_default_context
    if in_cluster:
        with Redis.from_url(f"{server.url}?{authority}") as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
            wait_until(lambda: is_whole(client), "the cluster to be whole")

    def counted() -> ssl.SSLContext:
        made.append(create())
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", counted)
    url = server.url.replace("rediss", "rediss+cluster" if in_cluster else "rediss")
    async with connect(f"{url}?{authority}", timeout=30) as store:
        began = time.monotonic()
        await asyncio.gather(*(store.do(store.client.get("x")) for _ in range(300)))
        assert (await store.information())["connected_clients"] > 20
        assert 1 <= len(made) <= 2 + (time.monotonic() - began) // READ_EVERY


async def test_the_embedded_server_keeps_what_it_was_told(registry: RegistryServer, tmp_path: Path) -> None:
    async with running(tmp_path / "redis") as url:
        await push_and_refuse(registry, url)
    async with running(tmp_path / "redis") as url, edge_over(registry.url, url) as edge:
        record = await edge.parts.register.read("team/app", "1.0")
        assert record.committed is not None
        assert record.committed.digest == image("one").digest


async def test_the_embedded_server_is_the_bundled_one_where_none_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: RegistryServer
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    async with running(tmp_path / "redis") as url:
        await push_and_refuse(registry, url, Durability(aof=True))


# --- replicas


async def test_h67_a_commit_waits_for_its_replicas(
    registry: RegistryServer, redis_server: RedisServer, replica: RedisServer
) -> None:
    await push_and_refuse(registry, redis_server.url, Durability(replicas=1))


@pytest.mark.parametrize("fate", ["kill", "pause"])
async def test_h67_without_its_replicas_nothing_is_pushed(
    registry: RegistryServer, redis_server: RedisServer, replica: RedisServer, fate: str
) -> None:
    """A replica that stands still is connected, and has all that other connections wrote before."""
    getattr(replica, fate)()
    async with edge_over(registry.url, redis_server.url, durability=Durability(replicas=1, timeout=0.2)) as edge:
        await check_nothing_is_pushed(edge, "team/app")
    if fate == "pause":
        replica.resume()  # a master that ends waits for it


async def test_h82_reads_do_not_wait_behind_steps_that_wait_for_a_replica(
    registry: RegistryServer, redis_server: RedisServer, replica: RedisServer
) -> None:
    replica.pause()
    async with edge_over(registry.url, redis_server.url, durability=Durability(replicas=1, timeout=2.0)) as edge:
        content, register = Content(digest=image("one").digest, needs=frozenset()), edge.parts.register
        claims = [register.claim("team/app", f"1.{n}", content, token="t", lease_ms=5000) for n in range(100)]
        waiting = asyncio.gather(*claims, return_exceptions=True)
        await asyncio.sleep(0.3)  # nothing tells that all of them wait
        async with asyncio.timeout(1.0):
            await register.read("team/app", "1.0")
        assert not waiting.done()
        replica.resume()
        assert not [error for error in await waiting if isinstance(error, ProxyOverloadedError)]


async def test_h67_without_its_replicas_nothing_is_deleted(
    registry: RegistryServer, redis_server: RedisServer, replica: RedisServer
) -> None:
    """A mark that a failover forgets would let a push come to need what is just going."""
    async with edge_over(registry.url, redis_server.url, durability=Durability(replicas=1, timeout=1.0)) as edge:
        untagged = image("untagged")
        assert (await edge.client.push("team/app", untagged.digest, untagged)).status == 201
        replica.pause()
        answer = await edge.client.ask("DELETE", f"/v2/team/app/manifests/{untagged.digest}")
        assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
        assert (await edge.direct.pull("team/app", untagged.digest)).status == 200
        replica.resume()


async def check_nothing_is_pushed(edge: RunningEdge, repository: str) -> None:
    answer = await edge.client.push(repository, "1.0", image("one"))
    assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
    assert (await edge.direct.pull(repository, "1.0")).status == 404


# --- sentinel


async def test_h67_after_a_failover_the_tag_still_holds_what_was_committed(
    registry: RegistryServer, redis_server: RedisServer, replica: RedisServer, sentinel: int
) -> None:
    url = f"redis+sentinel://127.0.0.1:{sentinel}/ledger"
    await push_and_refuse(registry, url, Durability(replicas=1))
    redis_server.kill()
    with Redis(port=sentinel) as client:
        wait_until(lambda: client.sentinel_master("ledger")["port"] == replica.port, "the replica to take over")
    async with edge_over(registry.url, url) as edge:
        assert (await pushed_between_failovers(edge, "1.0", image("two"))).status == 409
        assert (await pushed_between_failovers(edge, "2.0", image("two"))).status == 201


async def pushed_between_failovers(edge: RunningEdge, tag: str, pushed: Image, repository: str = "team/app") -> Answer:
    """On a busy machine the sentinel soon takes the new master for down as well, and looks for another in vain; and a
    node of a cluster may not have heard yet who has taken over.
    """
    async with asyncio.timeout(20):
        while (answer := await edge.client.push(repository, tag, pushed)).status == 503:
            await asyncio.sleep(0.05)
    return answer


# --- cluster


@pytest.fixture
def cluster(start_redis: Callable[..., RedisServer]) -> Iterator[str]:
    yield cluster_url(started_cluster(start_redis, masters=3))
    gc.collect()  # what the client leaves is not to be found in the middle of another test


@pytest.fixture
def replicated(start_redis: Callable[..., RedisServer]) -> Iterator[list[RedisServer]]:
    """Two masters, and the replica of each."""
    yield started_cluster(start_redis, masters=2, followed=range(2))
    gc.collect()


def repository_of(master: int) -> str:
    """A repository whose keys the first or second of two masters has."""
    names = (f"team/app{number}" for number in range(100))
    return next(name for name in names if master_of(name, 2) == master)


# The cluster client of redis-py leaves connections that it gave up on to the garbage collector.
leaving_connections = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@leaving_connections
async def test_h70_every_step_stays_in_one_slot_of_a_cluster(registry: RegistryServer, cluster: str) -> None:
    began = time.monotonic()
    await push_and_refuse(registry, cluster)
    assert time.monotonic() - began < 10


@leaving_connections
async def test_h67_a_cluster_waits_for_the_replicas_of_the_node_that_was_written_to(
    registry: RegistryServer, replicated: list[RedisServer]
) -> None:
    durability = Durability(replicas=1, timeout=2.0)
    async with edge_over(registry.url, cluster_url(replicated), durability=durability) as edge:
        for master in range(2):
            assert (await edge.client.push(repository_of(master), "0.9", image("before"))).status == 201
        # Several connections to each node, and a replica that has confirmed all that they saw: WAIT on another one than
        # the write's would be content with that.
        await asyncio.gather(*(edge.parts.register.read(repository_of(number % 2), "x") for number in range(20)))
        await asyncio.sleep(1.2)  # a replica confirms by itself once a second
        replicated[2].pause()
        await check_nothing_is_pushed(edge, repository_of(0))
        assert (await edge.client.push(repository_of(1), "1.0", image("one"))).status == 201
        replicated[2].resume()


@leaving_connections
async def test_h70_a_slot_that_moved_is_followed_and_its_replicas_are_waited_for(
    registry: RegistryServer, replicated: list[RedisServer]
) -> None:
    durability, repository = Durability(replicas=1, timeout=2.0), repository_of(0)
    async with edge_over(registry.url, cluster_url(replicated), durability=durability) as edge:
        client = edge.store.client
        assert isinstance(client, RedisCluster)
        await client.initialize()
        slots = client.nodes_manager.slots_cache
        slots[key_slot(repository.encode())] = slots[key_slot(repository_of(1).encode())]
        content, event = (
            Content(digest=image("one").digest, needs=frozenset()),
            record.own(Action.PUSH, Outcome.FAILED, repository),
        )
        reply = await edge.parts.register.claim(repository, "1.0", content, token="ours", lease_ms=5000)
        assert reply.step is Step.CLAIMED
        replicated[2].pause()
        slots[key_slot(repository.encode())] = slots[key_slot(repository_of(1).encode())]
        with pytest.raises(LedgerUnavailableError, match="0 of 1 replicas"):
            await edge.parts.register.arm(
                repository, "1.0", content, token="ours", lease_ms=5000, draft=event, closing=None
            )
        replicated[2].resume()


@leaving_connections
async def test_h67_after_the_failover_of_a_cluster_the_tag_still_holds_what_was_committed(
    registry: RegistryServer, replicated: list[RedisServer]
) -> None:
    repository, ours = repository_of(0), image("one")
    async with edge_over(registry.url, cluster_url(replicated[1:]), durability=Durability(replicas=1)) as edge:
        assert (await edge.client.push(repository, "1.0", ours)).status == 201
    replicated[0].kill()
    take_over(replicated[2], replicated)
    async with edge_over(registry.url, cluster_url(replicated[1:])) as edge:
        assert (await pushed_between_failovers(edge, "1.0", image("two"), repository)).status == 409
        assert (await edge.client.push(repository, "1.0", ours)).status == 201


@leaving_connections
async def test_h106_a_node_of_a_cluster_that_comes_up_empty_opens_no_delete(
    registry: RegistryServer, start_redis: Callable[..., RedisServer]
) -> None:
    """It is another than the one that has the lineage."""
    servers = started_cluster(start_redis, masters=2)
    other = 1 - key_slot(keys.LINEAGE.encode()) // (16384 // 2 + 1)
    repository, ours, loose = repository_of(other), image("one"), image("loose")
    async with edge_over(registry.url, cluster_url(servers)) as edge:
        for pushed in (ours, loose):
            assert (await edge.client.push(repository, pushed.digest, pushed)).status == 201
        assert (await edge.client.ask("DELETE", f"/v2/{repository}/manifests/{loose.digest}")).status == 202
        named = await edge.store.do(edge.store.client.get(keys.adopted(repository)))
        assert (await edge.client.put(repository, "1.0", ours)).status == 201
        servers[other].kill()
        shutil.rmtree(servers[other].directory / "appendonlydir")
        servers[other].start()
        wait_until_whole(servers)
        with Redis(port=servers[other].port) as client:
            client.set(keys.adopted(repository), named)  # as a copy that was put back would have it
        async with asyncio.timeout(20):
            while (
                answer := await edge.client.ask("DELETE", f"/v2/{repository}/manifests/{ours.digest}")
            ).status == 503:
                await asyncio.sleep(0.05)
        assert answer.status == 405
        assert (await edge.direct.pull(repository, "1.0")).digest == ours.digest
    gc.collect()
