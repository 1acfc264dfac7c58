"""A master with a replica, and the Sentinel that watches them."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from tests.support.servers import RedisServer, free_port, program, wait_until


@pytest.fixture
def replica(redis_server: RedisServer, start_redis: Callable[..., RedisServer]) -> RedisServer:
    server = start_redis()
    with Redis.from_url(redis_server.url) as master:
        master.config_set("repl-diskless-sync-delay", 0)
    with Redis.from_url(server.url) as client:
        client.replicaof("127.0.0.1", redis_server.port)
        wait_until(lambda: client.info("replication").get("master_link_status") == "up", "the replica to follow")
    return server


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
