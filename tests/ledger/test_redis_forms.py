"""The ledger on every form of Redis that ``redis.url`` may name, each a real one."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from immuproxy.ledger.embedded import running
from immuproxy.ledger.redis import Durability
from tests.conversation import edge_over, image
from tests.servers import RedisServer, RegistryServer, free_port, program, wait_until


async def push_and_refuse(registry: RegistryServer, url: str, durability: Durability | None = None) -> None:
    """The whole protocol once: first push, refusal, and what the ledger says afterwards."""
    async with edge_over(registry.url, url, durability=durability) as edge:
        first = image("one")
        assert (await edge.client.push("team/app", "1.0", first)).status == 201
        assert (await edge.client.push("team/app", "1.0", image("two"))).status == 409
        assert (await edge.client.pull("team/app", "1.0")).digest == first.digest
        assert len(await edge.events("team/app")) == 2
        assert (await edge.store.information())["redis_version"]


async def test_tcp_with_a_password(registry: RegistryServer, start_redis: Callable[..., RedisServer]) -> None:
    await push_and_refuse(registry, start_redis(password="secret").url)


async def test_a_unix_socket(registry: RegistryServer, redis_server: RedisServer) -> None:
    await push_and_refuse(registry, redis_server.unix_url)


async def test_tls(registry: RegistryServer, start_redis: Callable[..., RedisServer]) -> None:
    server = start_redis(tls=True)
    await push_and_refuse(registry, f"{server.url}?ssl_ca_certs={server.ca_path}")


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


@pytest.fixture
def replica(redis_server: RedisServer, start_redis: Callable[..., RedisServer]) -> RedisServer:
    server = start_redis()
    with Redis.from_url(server.url) as client:
        client.replicaof("127.0.0.1", redis_server.port)
        wait_until(lambda: client.info("replication").get("master_link_status") == "up", "the replica to follow")
    return server


async def test_h67_a_commit_waits_for_its_replicas(
    registry: RegistryServer, redis_server: RedisServer, replica: RedisServer
) -> None:
    await push_and_refuse(registry, redis_server.url, Durability(replicas=1))


async def test_h67_without_its_replicas_nothing_is_pushed(
    registry: RegistryServer, redis_server: RedisServer, replica: RedisServer
) -> None:
    replica.kill()
    async with edge_over(registry.url, redis_server.url, durability=Durability(replicas=1, timeout=0.2)) as edge:
        answer = await edge.client.push("team/app", "1.0", image("one"))
        assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
        assert (await edge.direct.pull("team/app", "1.0")).status == 404


# --- sentinel


@pytest.fixture
def sentinel(redis_server: RedisServer, replica: RedisServer, tmp_path: Path) -> Iterator[int]:
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\nsentinel monitor ledger 127.0.0.1 {redis_server.port} 1\n"
        "sentinel down-after-milliseconds ledger 300\nsentinel failover-timeout ledger 3000\n"
    )
    process = subprocess.Popen(
        [program("redis-server"), str(config), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with Redis(port=port) as client:
            wait_until(lambda: _knows_a_replica(client), "the sentinel to know the replica")
        yield port
    finally:
        process.kill()
        process.wait()


def _knows_a_replica(client: Redis) -> bool:
    with contextlib.suppress(RedisError):
        return bool(client.sentinel_slaves("ledger"))
    return False


async def test_h67_after_a_failover_the_tag_still_holds_what_was_committed(
    registry: RegistryServer, redis_server: RedisServer, replica: RedisServer, sentinel: int
) -> None:
    url = f"redis+sentinel://127.0.0.1:{sentinel}/ledger"
    await push_and_refuse(registry, url, Durability(replicas=1))
    redis_server.kill()
    with Redis(port=sentinel) as client:
        wait_until(lambda: client.sentinel_master("ledger")["port"] == replica.port, "the replica to take over")
    async with edge_over(registry.url, url) as edge:
        assert (await edge.client.push("team/app", "1.0", image("two"))).status == 409
        assert (await edge.client.push("team/app", "2.0", image("two"))).status == 201


# --- cluster


@pytest.fixture
async def cluster(start_redis: Callable[..., RedisServer]) -> str:
    servers = [start_redis(more={"cluster-enabled": "yes", "cluster-node-timeout": "2000"}) for _ in range(3)]
    share = 16384 // 3 + 1
    for number, server in enumerate(servers):
        with Redis(port=server.port) as client:
            first, last = number * share, min((number + 1) * share, 16384) - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", servers[0].port)
    for server in servers:
        with Redis(port=server.port) as client:
            wait_until(partial(_is_formed, client), "the cluster to form", seconds=40)
    return f"redis+cluster://127.0.0.1:{servers[0].port}"


def _is_formed(client: Redis) -> bool:
    reply: Any = client.execute_command("CLUSTER INFO")  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
    return "ok" in str(reply.get("cluster_state") if isinstance(reply, dict) else reply)


# The cluster client of redis-py leaves connections that it gave up on to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_h70_every_step_stays_in_one_slot_of_a_cluster(registry: RegistryServer, cluster: str) -> None:
    began = time.monotonic()
    await push_and_refuse(registry, cluster)
    assert time.monotonic() - began < 10
