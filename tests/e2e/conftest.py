"""A whole immuproxy in front of a real registry, and the clients that people push with."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.clients import NO_NETWORK, Builder, CannotStart, Docker, Podman, Skopeo, podman, running_dockerd, skopeo
from tests.e2e.layouts import Layout
from tests.support.proxies import ProxyServer, running_proxy
from tests.support.servers import RedisServer, RegistryServer

RULES = """
default: immutable
rules:
  - name: moving-tags
    tags: [latest, main, "dev-*"]
    policy: mutable
  - name: releases
    repositories: ["team/**"]
    tags: ["semver:>=1.0.0", "re:v\\\\d+(\\\\.\\\\d+)*"]
    policy: immutable
"""


@pytest.fixture
def proxy(registry: RegistryServer, redis_server: RedisServer) -> Iterator[ProxyServer]:
    """A proxy of its own, with a registry and a Redis of its own."""
    with running_proxy(registry.url, {"url": redis_server.url}, rules=RULES) as server:
        yield server


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


@pytest.fixture(name="skopeo")
def _skopeo() -> Skopeo:
    return skopeo()


@pytest.fixture(scope="session", name="podman")
def _podman() -> Iterator[Podman]:
    # a short path: podman takes at most 50 characters for where it runs
    with tempfile.TemporaryDirectory(prefix="ip-", ignore_cleanup_errors=True) as directory:
        yield podman(Path(directory))


@pytest.fixture(scope="session", name="docker")
def _docker() -> Iterator[Docker]:
    with contextlib.ExitStack() as stack:
        try:
            docker, _engine = stack.enter_context(running_dockerd(*NO_NETWORK))
        except CannotStart as reason:
            pytest.skip(str(reason))
        yield docker


@pytest.fixture(params=["docker", "podman"])
def builder(request: pytest.FixtureRequest) -> Builder:
    """Each client that builds and pushes, in turn."""
    client = request.getfixturevalue(request.param)
    assert isinstance(client, Builder)
    return client


@pytest.fixture
def image_name(proxy: ProxyServer, unique_name: str) -> Callable[[str], str]:
    """The full name of a tag in a repository of the `team/**` rule, through the proxy."""
    return lambda tag: f"{proxy.address}/team/{unique_name}:{tag}"
