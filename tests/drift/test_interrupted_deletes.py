"""Deletes that were interrupted are told as what is known of them (H114)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from immuproxy.edge import record
from immuproxy.ledger.model import Action, Event, Outcome, Step
from tests.drift.test_sweep import AT_ONCE, sweep_of
from tests.support.conversation import RunningEdge, edge_over, image, sha256
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY, TAG = "team/app", "latest"
ONE, OTHER = image("one"), image("other")


@pytest.fixture
async def edge(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    async with edge_over(registry.url, redis_server.url) as running:
        assert (await running.client.push(REPOSITORY, TAG, ONE)).status == 201
        yield running


async def left_open(edge: RunningEdge, action: Action, *, tag: str = "", digest: str = "") -> Event:
    """What a proxy leaves that stops after its mark and before it knows the outcome."""
    draft = record.own(action, Outcome.FAILED, REPOSITORY, tag=tag, digest=digest, reason=record.UNKNOWN)
    mark = f"tag:{tag}" if tag else digest
    step = await edge.parts.register.begin_delete(REPOSITORY, mark, holders=(), deadline_ms=600_000, draft=draft)
    assert step is Step.GRANTED
    return draft


async def deleted_directly(edge: RunningEdge) -> None:
    """The DELETE that the lost proxy had sent arrives."""
    answer = await edge.direct.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{ONE.digest}")
    assert answer.status == 202


async def told(edge: RunningEdge, intent: Event) -> list[Outcome]:
    """How a sweep tells it once nothing can land any more; its mark is gone then."""
    await sweep_of(edge, lease=AT_ONCE).once()
    assert await edge.parts.register.intents(REPOSITORY) == []
    return [event.outcome for event in await edge.events(REPOSITORY) if event.id == intent.id]


async def test_h114_what_was_deleted_and_pushed_again_is_no_delete_that_failed(edge: RunningEdge) -> None:
    intent = await left_open(edge, Action.DELETE_MANIFEST, digest=ONE.digest)
    await deleted_directly(edge)
    assert (await edge.client.push(REPOSITORY, TAG, ONE)).status == 201
    assert await told(edge, intent) == [Outcome.UNKNOWN]


async def test_h114_what_nobody_pushed_since_and_is_still_there_was_not_deleted(edge: RunningEdge) -> None:
    intent = await left_open(edge, Action.DELETE_MANIFEST, digest=ONE.digest)
    assert (await edge.client.push(REPOSITORY, "main", OTHER)).status == 201
    assert await told(edge, intent) == [Outcome.FAILED]


async def test_h114_a_blob_that_is_still_there_may_have_been_uploaded_again(edge: RunningEdge) -> None:
    intent = await left_open(edge, Action.DELETE_BLOB, digest=sha256(ONE.blobs[0]))
    assert await told(edge, intent) == [Outcome.UNKNOWN]


async def test_h114_a_tag_that_another_delete_took_is_told_by_that(edge: RunningEdge) -> None:
    intent = await left_open(edge, Action.DELETE_TAG, tag=TAG)
    assert (await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{ONE.digest}")).status == 202
    assert await told(edge, intent) == [Outcome.UNKNOWN]
    taken = [event for event in await edge.events(REPOSITORY) if (event.tag, event.outcome) == (TAG, Outcome.DELETED)]
    assert len(taken) == 1


async def test_h114_a_tag_that_another_delete_may_have_taken_is_unknown(edge: RunningEdge) -> None:
    of_tag = await left_open(edge, Action.DELETE_TAG, tag=TAG)
    of_digest = await left_open(edge, Action.DELETE_MANIFEST, digest=ONE.digest)
    await deleted_directly(edge)
    assert await told(edge, of_tag) in ([Outcome.UNKNOWN], [Outcome.DELETED])  # whichever the sweep comes to first
    assert await told(edge, of_digest) == [Outcome.DELETED]
    ends = [event for event in await edge.events(REPOSITORY) if (event.tag, event.outcome) == (TAG, Outcome.DELETED)]
    assert len(ends) == 1


async def test_h114_a_tag_that_only_this_delete_can_have_taken_is_deleted(edge: RunningEdge) -> None:
    intent = await left_open(edge, Action.DELETE_TAG, tag=TAG)
    await deleted_directly(edge)
    assert await told(edge, intent) == [Outcome.DELETED]
    assert await edge.parts.register.moved(REPOSITORY, TAG) == ""


async def test_h114_a_tag_that_nobody_knew_is_not_told_as_deleted(edge: RunningEdge) -> None:
    intent = await left_open(edge, Action.DELETE_TAG, tag="dev-1")
    assert await told(edge, intent) == [Outcome.UNKNOWN]


async def test_h114_a_tag_that_was_pushed_since_is_no_delete_that_failed(edge: RunningEdge) -> None:
    intent = await left_open(edge, Action.DELETE_TAG, tag=TAG)
    assert (await edge.client.push(REPOSITORY, TAG, OTHER)).status == 201
    assert await told(edge, intent) == [Outcome.UNKNOWN]
