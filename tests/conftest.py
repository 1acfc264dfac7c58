"""Fixtures that every test may ask for.

`registry` and `redis_server` are fresh for each test (together about 40 ms) and may be killed, frozen or broken.
`shared_registry` and `shared_redis` live for the whole session: use names of your own there (`unique_name`).
`start_registry` and `start_redis` are factories for options or for more than one.
`replica` follows `redis_server`, and `sentinel` (the port of one) watches both.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import secrets
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx
from redis import Redis
from redis.exceptions import RedisError
from xdist.scheduler import LoadFileScheduling

from tests.support.servers import (
    RedisServer,
    RegistryServer,
    free_port,
    program,
    running_redis,
    running_registry,
    wait_until,
)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # What a shell starts in the background ignores Ctrl-C, and so would every program that the tests start and stop.
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONGEST = ("test_recovery.py", "test_containers.py", "test_failovers.py", "test_soak.py", "test_restarts.py")
LONG = ("invariants", "auditor", "e2e", "browser")
CHANGES_THE_NETWORK = "tests/e2e/test_containers.py"
MINDS_THE_NETWORK = "tests/browser/"


class OneWorkerForTheNetwork(LoadFileScheduling):  # type: ignore[misc] # published without types
    """A file a worker; but the browser and the containers one after the other, in the same one.

    Chromium gives up its connections whenever an address of the machine comes or goes (`ERR_NETWORK_CHANGED`),
    those to 127.0.0.1, too, and an engine that starts containers makes addresses.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "the network" if file.startswith((CHANGES_THE_NETWORK, MINDS_THE_NETWORK)) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling | None:
    return OneWorkerForTheNetwork(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, or one worker would be alone with it at the end."""
    items.sort(key=lambda item: (item.path.name not in LONGEST, item.path.parent.name not in LONG))


@pytest.fixture(autouse=True)
def _no_blocking_calls(request: pytest.FixtureRequest) -> Iterator[None]:
    """A blocking call made by immuproxy on the event loop fails an async test."""
    function = getattr(request.node, "function", None)
    is_async = function is not None and inspect.iscoroutinefunction(inspect.unwrap(function))
    if is_async and not request.node.get_closest_marker("blocking_allowed"):
        with blockbuster_ctx("immuproxy"):
            yield
    else:
        yield


@pytest.fixture(scope="session")
def shared_registry() -> Iterator[RegistryServer]:
    with running_registry() as server:
        yield server


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    with running_registry() as server:
        yield server


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
def start_registry() -> Iterator[Callable[..., RegistryServer]]:
    """Start as many registries as you like; options as of `servers.make_registry`."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(running_registry(**options))


@pytest.fixture
def start_redis() -> Iterator[Callable[..., RedisServer]]:
    """Start as many Redis servers as you like; options as of `servers.make_redis`."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(running_redis(**options))


@pytest.fixture
def unique_name() -> str:
    """A repository name that no other test uses."""
    return f"t/{uuid.uuid4().hex[:12]}"


@pytest.fixture
def seed() -> int:
    """Of everything random in a soak; `SOAK_SEED` replays one."""
    return int(os.environ.get("SOAK_SEED") or secrets.randbelow(1_000_000))


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
