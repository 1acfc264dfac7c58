from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from immuproxy.edge import record
from immuproxy.ledger.model import Action, Event, Outcome
from tests.drift.test_sweep import REPOSITORY, sweep_of
from tests.support.conversation import RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer


@pytest.fixture
async def edge(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    async with edge_over(
        registry.url,
        redis_server.url,
        rules="default: mutable\nrules: [{name: r, tags: ['1.0'], policy: immutable, delete: allow, reuse: allow}]\n",
    ) as running:
        yield running


async def open_finding(edge: RunningEdge, tag: str) -> None:
    found = await edge.parts.register.read(REPOSITORY, tag)
    assert found.committed
    event = record.own(Action.DRIFT, Outcome.FOUND, REPOSITORY, tag=tag)
    assert await edge.parts.register.open_drift(REPOSITORY, tag, seen="", held=found.committed.digest, event=event)


async def test_a_finding_about_a_deleted_tag_ends(edge: RunningEdge) -> None:
    pushed = image("one")
    await edge.client.push(REPOSITORY, "1.0", pushed)
    await open_finding(edge, "1.0")
    await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{pushed.digest}")
    await sweep_of(edge).once()
    assert await edge.parts.register.drifts(REPOSITORY) == []
    last: Event = (await edge.events(REPOSITORY))[-1]
    assert (last.action, last.outcome, last.tag) == (Action.REPAIR, Outcome.ENDED, "1.0")
