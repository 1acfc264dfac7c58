"""That a push changed nothing, or was refused, is told before the overwrite that replaced what it saw, or it is judged
again (H117).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from immuproxy.ledger.ids import new_event_id
from immuproxy.ledger.model import Action, ActorSource, Event, Outcome
from tests.support.between import Between, Request, between
from tests.support.conversation import Answer, Image, RunningEdge, edge_over, image, sha256
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY, TAG = "team/app", "1.0"
ONE, TWO, THREE = image("one"), image("two"), image("three")
BY_LABEL = """
default: immutable
rules:
  - {name: by-label, tags: ["1.*"], policy: immutable, overwrite: [{same: [org.opencontainers.image.revision]}]}
"""
GRANT = Event(
    id=new_event_id(),
    action=Action.EXCEPTION,
    outcome=Outcome.GRANTED,
    repository=REPOSITORY,
    tag=TAG,
    reason="rebuild",
    actor_source=ActorSource.OPERATOR,
)


class Look:
    """Holds back the first answer to a GET of one digest."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.seen = asyncio.Event()
        self.let_go = asyncio.Event()

    async def act(self, asked: Request) -> Answer:
        answer = await asked.forward()
        if asked.method == "GET" and asked.target.endswith(self.digest) and not self.seen.is_set():
            self.seen.set()
            await self.let_go.wait()
        return answer


async def overwritten_meanwhile(edge: RunningEdge, standing: Between, pushed: Image, digest: str) -> Answer:
    """Somebody pushes to the tag, and it is overwritten with `TWO` while the proxy looks at a digest for that."""
    look = Look(digest)
    standing.act = look.act
    push = asyncio.create_task(edge.client.put(REPOSITORY, TAG, pushed))
    try:
        await look.seen.wait()
        assert (await edge.client.put(REPOSITORY, TAG, TWO)).status == 201
    finally:
        look.let_go.set()
    return await push


@pytest.mark.parametrize(
    ("allowed", "outcome"),
    [("", Outcome.OVERWRITTEN), (TWO.digest, Outcome.REFUSED)],
    ids=["either may overwrite", "only the other may"],
)
async def test_h117_what_was_overwritten_meanwhile_is_judged_again(
    registry: RegistryServer, redis_server: RedisServer, allowed: str, outcome: Outcome
) -> None:
    async with between(registry.url) as standing, edge_over(standing.url, redis_server.url) as edge:
        await edge.direct.blobs(REPOSITORY, TWO)
        assert (await edge.client.push(REPOSITORY, TAG, ONE)).status == 201
        await edge.parts.exceptions.grant(replace(GRANT, digest=allowed), lasts_ms=60_000)
        status, holds = (201, ONE) if outcome is Outcome.OVERWRITTEN else (409, TWO)
        assert (await overwritten_meanwhile(edge, standing, ONE, ONE.digest)).status == status
        pushes = [event for event in await edge.events(REPOSITORY) if event.action is Action.PUSH]
        told = [(event.outcome, event.previous_digest) for event in pushes]
        assert told == [(Outcome.CREATED, ""), (Outcome.OVERWRITTEN, ONE.digest), (outcome, TWO.digest)]
        assert (await edge.client.pull(REPOSITORY, TAG)).body == holds.body


async def test_h117_a_refusal_by_what_was_overwritten_meanwhile_is_judged_again(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    async with (
        between(registry.url) as standing,
        edge_over(standing.url, redis_server.url, rules=BY_LABEL) as edge,
    ):
        for each in (TWO, THREE):
            await edge.direct.blobs(REPOSITORY, each)
        assert (await edge.client.push(REPOSITORY, TAG, ONE)).status == 201
        look_at = sha256(ONE.blobs[0])  # the labels of what is held
        await edge.parts.exceptions.grant(replace(GRANT, digest=TWO.digest), lasts_ms=60_000)
        answer = await overwritten_meanwhile(edge, standing, THREE, look_at)
        pushes = [event for event in await edge.events(REPOSITORY) if event.action is Action.PUSH]
        told = [(event.outcome, event.previous_digest) for event in pushes]
        assert told == [(Outcome.CREATED, ""), (Outcome.OVERWRITTEN, ONE.digest), (Outcome.REFUSED, TWO.digest)]
        assert answer.status == 409
        assert answer.error["detail"]["current_digest"] == TWO.digest


async def test_h117_a_name_that_stays_taken_is_refused_by_what_it_held(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    rules = 'rules: [{name: mortal, tags: ["*"], policy: immutable, delete: allow, reuse: never}]'
    async with edge_over(registry.url, redis_server.url, rules=rules) as edge:
        assert (await edge.client.push(REPOSITORY, TAG, ONE)).status == 201
        assert (await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{ONE.digest}")).status == 202
        assert (await edge.client.push(REPOSITORY, TAG, TWO)).status == 409
        assert [event.outcome for event in await edge.events(REPOSITORY)][-1] is Outcome.REFUSED


async def test_h117_what_stands_is_told_as_unchanged(edge: RunningEdge) -> None:
    assert (await edge.client.push(REPOSITORY, TAG, ONE)).status == 201
    assert (await edge.client.put(REPOSITORY, TAG, ONE)).status == 201
    assert [event.outcome for event in await edge.events(REPOSITORY)] == [Outcome.CREATED, Outcome.UNCHANGED]
