"""What the processes of a proxy say to each other, and that nobody waits for somebody who does not listen."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from immuproxy.console.sources import PULLS, PUSHES
from immuproxy.ledger.model import TagRecord
from immuproxy.service import between
from immuproxy.service.between import Answering, Edges, Heard, Hints, Wires
from immuproxy.store import cancelling
from immuproxy.telemetry.metrics import Metrics
from tests.support.conversation import RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer


@pytest.fixture
def wires() -> Iterator[Wires]:
    opened = Wires.open(["edge-1", "edge-2"])
    yield opened
    for descriptor in (*opened.hints, opened.totals):
        os.close(descriptor)
    for pair in opened.asked.values():
        for end in pair:
            end.close()


@pytest.fixture
async def edge(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    async with edge_over(registry.url, redis_server.url) as running:
        yield running


@asynccontextmanager
async def office(wires: Wires, edge: RunningEdge) -> AsyncIterator[list[str]]:
    """Takes hints; gives the repositories that were published."""
    published: list[str] = []
    parts = edge.parts
    follow = Heard(wires.hints[0]).follow(published.append, parts.register, parts.healer)
    tasks = {asyncio.create_task(follow)}
    try:
        yield published
    finally:
        await cancelling.end(tasks)


async def until_heard(published: list[str], repository: str) -> None:
    async with asyncio.timeout(5):
        while repository not in published:
            await asyncio.sleep(0.001)


async def test_a_hint_is_heard_also_by_the_office_that_comes_later(wires: Wires, edge: RunningEdge) -> None:
    hints = Hints(wires.hints[1])
    async with office(wires, edge) as published:
        hints.published("team/app")
        await until_heard(published, "team/app")
    hints.published("team/other")
    async with office(wires, edge) as published:
        await until_heard(published, "team/other")


async def test_the_rest_of_a_line_that_another_office_began_to_read_is_passed_over(
    wires: Wires, edge: RunningEdge
) -> None:
    Hints(wires.hints[1]).published("team/app")
    os.read(wires.hints[0], 4)
    Hints(wires.hints[1]).published("team/other")
    async with office(wires, edge) as published:
        await until_heard(published, "team/other")
    assert published == ["team/other"]


async def test_h145_where_nobody_listens_an_edge_goes_on(wires: Wires, edge: RunningEdge) -> None:
    hints = Hints(wires.hints[1])
    for number in range(10_000):
        hints.published(f"team/app-{number}")
    async with office(wires, edge) as published:
        await until_heard(published, "team/app-0")
        async with asyncio.timeout(5):
            while "last" not in published:
                hints.published("last")
                await asyncio.sleep(0.01)
    assert len(published) > 1000
    assert all(each in {"last", f"team/app-{number}"} for number, each in enumerate(published))


async def test_drift_is_followed_where_the_tag_still_holds_what_the_reader_knew(
    wires: Wires, edge: RunningEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[str] = []
    monkeypatch.setattr(edge.parts.healer, "report", lambda found, seen: reported.append(f"{found.tag} {seen}"))
    for tag in ("1.0", "2.0"):
        await edge.client.push("team/app", tag, image(tag))
    first, second = [await edge.parts.register.read("team/app", tag) for tag in ("1.0", "2.0")]
    hints = Hints(wires.hints[1])
    hints.drifted(TagRecord("team/app", "1.0", committed=second.committed), "sha256:aa")  # it holds something else now
    for _ in range(3):
        hints.drifted(second, "sha256:bb")
    hints.published("last")
    async with office(wires, edge) as published:
        await until_heard(published, "last")
    assert first.committed != second.committed
    assert reported == ["2.0 sha256:bb"]


@asynccontextmanager
async def answering(wires: Wires, *names: str) -> AsyncIterator[None]:
    tasks = {asyncio.create_task(Answering(wires.asked[name][1], f"{name}#0").run(Metrics())) for name in names}
    try:
        yield
    finally:
        await cancelling.end(tasks)


def asking(wires: Wires) -> Edges:
    return Edges([end for end, _ in wires.asked.values()], wires.totals, "office#0")


async def test_edges_that_do_not_answer_are_told(wires: Wires, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(between, "PATIENCE", 0.1)
    edges = asking(wires)
    async with answering(wires, "edge-1", "edge-2"):
        found = await edges.serve()
        assert (found.ok, found.detail, found.stops) == (True, "2 of 2 processes answer", frozenset())
    async with answering(wires, "edge-1"):
        found = await edges.serve()
        assert (found.ok, found.detail, found.stops) == (False, "1 of 2 processes answer", frozenset())
    for _ in range(30):  # more than wait for anybody
        found = await edges.serve()
    assert (found.ok, found.detail, found.stops) == (False, "0 of 2 processes answer", frozenset({PULLS, PUSHES}))
    async with answering(wires, "edge-1", "edge-2"):
        await asyncio.sleep(0.1)  # those who asked meanwhile have gone
        assert (await edges.serve()).ok


async def test_an_answer_that_breaks_off_counts_as_none(wires: Wires) -> None:
    async def half(end: socket.socket) -> None:
        await between._readable(end)
        _, descriptors, _, _ = socket.recv_fds(end, 16, 1)
        with socket.socket(fileno=descriptors[0]) as answer:
            answer.sendall(b"edge-1#0\n" + json.dumps({"immuproxy_requests": []}).encode()[:-1])

    async with asyncio.TaskGroup() as tasks, answering(wires, "edge-2"):
        tasks.create_task(half(wires.asked["edge-1"][1]))
        whole = await asking(wires).metrics(Metrics())
    assert next(family for family in whole.collect() if family.name == "immuproxy_requests").samples
