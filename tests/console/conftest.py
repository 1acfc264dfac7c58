"""A console over a real Redis, and the events to fill it with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry, Counter

from immuproxy.allow.exceptions import Exceptions
from immuproxy.audit.record import Record
from immuproxy.audit.record.project import take
from immuproxy.audit.record.rows import entry
from immuproxy.console.app import make_console
from immuproxy.console.sources import ComparisonPace, Dependency, Sources
from immuproxy.drift.service import anonymous_service
from immuproxy.edge.settings import Timeouts
from immuproxy.edge.upstream import opened as open_upstream
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.model import Event
from immuproxy.ledger.register import Register
from immuproxy.service.registry_contents import RegistryContents
from immuproxy.store.redis import Store, connect
from tests.audit.settled import searchable
from tests.console.events import RULES, in_force, now
from tests.console.logging_in import console_for, users_in
from tests.support.conversation import RunningEdge, edge_over
from tests.support.servers import RedisServer, RegistryServer

Console = TestClient[web.Request, web.Application]
BATCH = 100
Seed = Callable[[Sequence[Event]], Awaitable[None]]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> None:
    """The one file whose tests schemathesis makes; loaded for every run it would cost each of them."""
    if file_path.name == "test_openapi.py":
        parent.config.pluginmanager.import_plugin("schemathesis.pytest.plugin")


@dataclass(slots=True)
class State:
    """What a test may change under a running console."""

    parts: tuple[Dependency, ...] = (
        Dependency("redis", ok=True, detail="version 7"),
        Dependency("upstream", ok=True, detail="open"),
    )


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    async with connect(redis_server.url, timeout=2.0) as opened:
        yield opened


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
async def sources(store: Store, state: State) -> AsyncIterator[Sources]:
    async def probe() -> Sequence[Dependency]:
        return state.parts

    async def counted() -> CollectorRegistry:
        return metrics

    metrics = CollectorRegistry()
    Counter("seen", "What the test counted.", registry=metrics).inc(3)
    ruling = in_force(RULES)
    async with searchable(store) as found:
        yield Sources(
            audit=found.audit,
            rosters=found.rosters,
            register=Register(store, Epoch(store, quarantine=0.0)),
            exceptions=Exceptions(store, lambda _repository: None),
            rules=lambda: ruling,
            status=lambda: state.parts,
            probe=probe,
            metrics=counted,
            clock=now,
            edge="registry.example:5000",
            version="1.2.3",
            pace=ComparisonPace(600, 20),
        )


@pytest.fixture
def record(store: Store) -> Record:
    """Where events of no repository are put."""
    return Record(store)


@pytest.fixture
async def console(sources: Sources) -> AsyncIterator[Console]:
    async with TestClient(TestServer(make_console(sources))) as client:
        yield client


@pytest.fixture
async def closed_console(sources: Sources, store: Store, tmp_path: Path) -> AsyncIterator[Console]:
    """A console that asks for passwords: see `tests.console.logging_in`."""
    async with console_for(sources, store, users_in(tmp_path)) as client:
        yield client


@pytest.fixture
def seed(store: Store) -> Seed:
    """Put events into the audit, oldest first."""

    async def put(events: Sequence[Event]) -> None:
        written = [entry(event.to_dict()) for event in events]
        for start in range(0, len(written), BATCH):
            await take(store, "", written[start : start + BATCH])

    return put


@pytest.fixture
async def edge(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    async with edge_over(registry.url, redis_server.url) as running:
        yield running


@pytest.fixture
async def reading(sources: Sources, registry: RegistryServer) -> AsyncIterator[Console]:
    """A console that may read the registry."""
    async with open_upstream(registry.url, timeouts=Timeouts.model_construct(connect=1.0)) as upstream:
        contents = RegistryContents(upstream, anonymous_service())
        async with TestClient(TestServer(make_console(replace(sources, contents=contents)))) as console:
            yield console
