"""A real Redis Cluster of servers on loopback ports."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.support.servers import RedisServer, free_port, wait_until

SLOTS = 16384


def cluster_settings(node_timeout: int = 2000) -> Mapping[str, str]:
    """Of one server of a cluster; ``node_timeout``: milliseconds after which a node counts as gone.

    Its bus gets a free port of its own: by default that is 10,000 above the server's, where connections go out from.
    """
    return {
        "cluster-enabled": "yes",
        "cluster-port": str(free_port()),
        "cluster-node-timeout": str(node_timeout),
        "repl-diskless-sync-delay": "0",
    }


def cluster_url(servers: Sequence[RedisServer]) -> str:
    return f"redis+cluster://127.0.0.1:{servers[0].port}"


def master_of(hash_tag: str, masters: int) -> int:
    """The number of the master that has a slot in a cluster as `form_cluster` leaves it."""
    return int(key_slot(hash_tag.encode()) // _share(masters))


def started_cluster(
    start_redis: Callable[..., RedisServer], *, masters: int, followed: Iterable[int] = (), binary: str | None = None
) -> list[RedisServer]:
    """Servers from the fixture, made into a cluster by `form_cluster`."""
    replicas = list(followed)
    servers = [start_redis(more=cluster_settings(), binary=binary) for _ in range(masters + len(replicas))]
    form_cluster(servers, masters=masters, followed=replicas)
    return servers


def form_cluster(servers: Sequence[RedisServer], *, masters: int, followed: Iterable[int]) -> None:
    """Masters with equal shares of the slots first, then for each master in ``followed`` (by its number) a replica."""
    with Redis(port=servers[0].port) as first_one:
        bus: Any = first_one.config_get("cluster-port")
    for number, server in enumerate(servers):
        with Redis(port=server.port) as client:
            if number < masters:
                first, last = number * _share(masters), min((number + 1) * _share(masters), SLOTS) - 1
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", servers[0].port, bus["cluster-port"])
    wait_until_whole(servers)
    for number, replica in zip(followed, servers[masters:], strict=True):
        _follow(servers[number], replica)


def _share(masters: int) -> int:
    return SLOTS // masters + 1


def _follow(master: RedisServer, replica: RedisServer) -> None:
    with Redis(port=master.port) as one, Redis(port=replica.port) as other:
        name = one.execute_command("CLUSTER", "MYID").decode()
        wait_until(lambda: name in str(other.execute_command("CLUSTER NODES")), "the replica to know its master")
        other.execute_command("CLUSTER", "REPLICATE", name)
        wait_until(lambda: other.info("replication").get("master_link_status") == "up", "the replica to follow")


def is_whole(client: Redis) -> bool:
    """Whether this node finds that every slot is served."""
    with contextlib.suppress(RedisError):
        reply: Any = client.execute_command("CLUSTER INFO")  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        return "ok" in str(reply.get("cluster_state") if isinstance(reply, dict) else reply)
    return False


def wait_until_whole(servers: Iterable[RedisServer]) -> None:
    """Until each of the nodes finds that every slot is served."""
    for server in servers:
        with Redis(port=server.port) as client:
            wait_until(partial(is_whole, client), "the cluster to be whole", seconds=40)


def take_over(replica: RedisServer, servers: Iterable[RedisServer]) -> None:
    """Make a replica the master without asking anybody; until all nodes that run find the cluster whole again."""
    with Redis(port=replica.port) as client:
        client.execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
        wait_until(lambda: client.info("replication")["role"] == "master", "the replica to take over", seconds=30)
    wait_until_whole(server for server in servers if server.is_running)
