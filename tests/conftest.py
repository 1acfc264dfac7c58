"""Fixtures that every test may ask for.

`registry` and `redis_server` are fresh for each test (together about 40 ms) and may be killed, frozen or broken.
`shared_registry` and `shared_redis` live for the whole session: use names of your own there (`unique_name`).
`start_registry` and `start_redis` are factories for options or for more than one.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import secrets
import signal
import uuid
from collections.abc import Callable, Iterator

import pytest
from blockbuster import blockbuster_ctx

from tests.support.servers import RedisServer, RegistryServer, running_redis, running_registry

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # What a shell starts in the background ignores Ctrl-C, and so would every program that the tests start and stop.
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONG = ("invariants", "auditor", "e2e")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folders with the longest tests come first, or one worker would be alone with them at the end."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)


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
