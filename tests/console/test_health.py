from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import Metric
from prometheus_client.registry import Collector

from immuproxy.console.app import make_console
from immuproxy.console.sources import PULLS, PUSHES, Dependency, Sources
from tests.console.conftest import Console, State


async def test_the_process_is_healthy_whatever_else_is_down(console: Console, state: State) -> None:
    state.parts = (Dependency("redis", ok=False),)
    async with console.get("/healthz") as response:
        assert response.status == 200


NO_REDIS = Dependency("redis", ok=False, detail="connection refused", stops=frozenset({PUSHES}))
NO_UPSTREAM = Dependency("upstream", ok=False, detail="connection refused", stops=frozenset({PULLS, PUSHES}))
TAKES_NONE = Dependency("upstream", ok=True, detail="takes no pushes", stops=frozenset({PUSHES}))
UP = {"redis": Dependency("redis", ok=True), "upstream": Dependency("upstream", ok=True)}


@pytest.mark.parametrize(
    ("part", "status", "expected"),
    [
        (UP["redis"], "ready", (200, 200)),
        (NO_REDIS, "degraded", (200, 503)),
        (TAKES_NONE, "degraded", (200, 503)),
        (NO_UPSTREAM, "unavailable", (503, 503)),
    ],
)
async def test_ready_means_that_pulls_can_be_served(
    console: Console, state: State, part: Dependency, status: str, expected: tuple[int, int]
) -> None:
    """A balancer that asks takes no proxy out of service that still serves pulls, only because Redis is away."""
    state.parts = tuple((UP | {part.name: part}).values())
    pulls, pushes = expected
    for query, code in (("", pulls), ("?writes=0", pulls), ("?writes=1", pushes), ("?writes", pushes)):
        async with console.get(f"/readyz{query}") as response:
            body = await response.json()
            assert response.status == code, query
            assert (body["status"], body["ready"], body["writes"]) == (status, pulls == 200, pushes == 200)
            shown = {"name": part.name, "ok": part.ok, "detail": part.detail, "stops": sorted(part.stops)}
            assert shown in body["parts"]


PAGES = ("/", "/audit", "/repositories", "/drift", "/exceptions", "/rules", "/compare", "/nowhere")


async def test_no_page_waits_for_a_part_that_hangs(sources: Sources, state: State) -> None:
    asked = asyncio.Event()

    async def hangs() -> Sequence[Dependency]:
        asked.set()
        never: asyncio.Future[Sequence[Dependency]] = asyncio.get_running_loop().create_future()
        return await never

    state.parts = (NO_REDIS, UP["upstream"])
    async with TestClient(TestServer(make_console(replace(sources, probe=hangs)))) as console:
        for path in PAGES:
            async with console.get(path) as response:
                assert "Redis down" in await response.text(), path
        async with console.get("/api/v1/status") as response:
            assert (await response.json())["status"] == "degraded"
        async with console.get("/api/v1/overview") as response:
            assert (await response.json())["status"]["status"] == "degraded"
        assert not asked.is_set()
        probing = asyncio.create_task(console.session.get(console.make_url("/readyz")))
        await asyncio.wait_for(asked.wait(), 5)
        assert not probing.done()
        probing.cancel()


async def test_metrics_are_those_of_the_registry(console: Console) -> None:
    async with console.get("/metrics") as response:
        assert response.content_type == "text/plain"
        assert "seen_total 3.0" in await response.text()


async def test_metrics_in_the_newer_form_when_asked(console: Console) -> None:
    accept = "application/openmetrics-text; version=1.0.0"
    async with console.get("/metrics", headers={"Accept": accept}) as response:
        assert response.content_type == "application/openmetrics-text"
        assert (await response.text()).endswith("# EOF\n")


async def test_h88_metrics_are_written_once_for_all_who_ask_meanwhile(console: Console, sources: Sources) -> None:
    written: list[float] = []

    class Slow(Collector):
        def collect(self) -> Iterable[Metric]:
            time.sleep(0.02)
            written.append(time.monotonic())
            return []

    (await sources.metrics()).register(Slow())
    written.clear()

    async def ask() -> None:
        async with console.get("/metrics") as response:
            assert response.status == 200

    await asyncio.gather(*(ask() for _ in range(40)))
    assert len(written) < 10
