"""A push is judged by what is in force when its tag is decided, however long it waited before (H103, H104)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from immuproxy.ledger.content import Content
from immuproxy.ledger.ids import new_event_id
from immuproxy.ledger.model import Outcome
from tests.edge.test_exceptions import GRANT, grant
from tests.support.between import Between, Request, between
from tests.support.conversation import Answer, RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY, TAG = "team/app", "1.0"
ONE, TWO, THREE = image("one"), image("two"), image("three")
LOOSE = "rules: [{name: fresh, policy: immutable, overwrite: [{within: 15m}]}]"
STRICT = "rules: [{name: fresh, policy: immutable}]"
MOVES, HOLDS = "default: mutable", "default: immutable"

Change = Callable[[RunningEdge], Awaitable[None]]


async def exception_ends(edge: RunningEdge) -> None:
    exemption = await edge.parts.exceptions.of(REPOSITORY, TAG)
    assert exemption is not None
    assert await edge.parts.exceptions.end(exemption, replace(GRANT, id=new_event_id(), outcome=Outcome.ENDED))


async def overwrite_is_removed(edge: RunningEdge) -> None:
    edge.use_rules(STRICT)


async def prepared(edge: RunningEdge, change: Change) -> None:
    """A tag that holds the first image, and may be overwritten for now."""
    edge.use_rules(LOOSE if change is overwrite_is_removed else STRICT)
    assert (await edge.client.push(REPOSITORY, TAG, ONE)).status == 201
    if change is exception_ends:
        await edge.parts.exceptions.grant(grant(), lasts_ms=60_000)
    for pushed in (TWO, THREE):
        await edge.direct.blobs(REPOSITORY, pushed)


@pytest.mark.parametrize("change", [exception_ends, overwrite_is_removed])
async def test_h103_a_push_that_waited_is_judged_by_what_is_in_force_then(edge: RunningEdge, change: Change) -> None:
    """Behind an overwrite of other content that comes to nothing."""
    await prepared(edge, change)
    register = edge.parts.register
    other = Content(digest=THREE.digest, needs=frozenset({THREE.digest}))
    await register.claim(REPOSITORY, TAG, other, token="t", lease_ms=60_000, over_generation=1, over_digest=ONE.digest)
    waiting = asyncio.create_task(edge.client.put(REPOSITORY, TAG, TWO))
    await asyncio.sleep(0.1)  # nothing tells that it waits by now
    await change(edge)
    await register.release(REPOSITORY, TAG, token="t", event=None)
    assert (await waiting).status == 409
    assert (await edge.client.pull(REPOSITORY, TAG)).digest == ONE.digest
    assert [event.outcome for event in await edge.events(REPOSITORY)][-1] is Outcome.REFUSED


@pytest.mark.parametrize("change", [exception_ends, overwrite_is_removed])
async def test_h103_so_is_one_whose_claim_comes_late(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    """Between the verdict and the step that takes the claim."""
    await prepared(edge, change)
    register: Any = edge.parts.register
    real = register.claim

    async def after_the_change(*arguments: Any, **named: Any) -> Any:
        if named["over_generation"]:
            monkeypatch.setattr(register, "claim", real)
            await change(edge)
        return await real(*arguments, **named)

    monkeypatch.setattr(register, "claim", after_the_change)
    assert (await edge.client.put(REPOSITORY, TAG, TWO)).status == 409
    found = await register.read(REPOSITORY, TAG)
    assert (found.claim, found.committed.digest) == (None, ONE.digest)


@pytest.fixture
async def middle(registry: RegistryServer) -> AsyncIterator[Between]:
    async with between(registry.url) as standing:
        yield standing


@pytest.fixture
async def held_up(middle: Between, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    """Nothing is protected, and the blobs of all images are there."""
    async with edge_over(middle.url, redis_server.url, rules=MOVES) as edge:
        for pushed in (ONE, TWO):
            await edge.client.blobs(REPOSITORY, pushed)
        yield edge


@pytest.mark.parametrize("first", ["the one under way", "the one after the change"])
async def test_h104_of_two_first_pushes_around_a_widened_rule_one_wins(
    held_up: RunningEdge, middle: Between, first: str
) -> None:
    """One is on its way to the registry as a tag that moves when the rule comes to hold the tag."""
    edge, second = held_up, list[Answer]()

    async def widen(request: Request) -> Answer | None:
        if not request.is_manifest_put or request.body != ONE.body:
            return await request.forward()
        answer = await request.forward() if first == "the one under way" else None
        edge.use_rules(HOLDS)
        second.append(await edge.client.put(REPOSITORY, TAG, TWO))
        return answer or await request.forward()

    middle.act = widen
    answer = await edge.client.put(REPOSITORY, TAG, ONE)
    won = ONE if first == "the one under way" else TWO
    assert [answer.status, second[0].status] == ([201, 409] if won is ONE else [409, 201])
    assert (await edge.client.pull(REPOSITORY, TAG)).digest == won.digest
    assert await edge.parts.register.intents(REPOSITORY) == []


async def test_h104_a_push_that_was_free_to_move_the_tag_takes_no_record_of_a_guarded_one(
    held_up: RunningEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its intent comes after a push by the widened rule has been committed and answered."""
    edge = held_up
    register: Any = edge.parts.register
    real = register.intend

    async def after_the_change(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(register, "intend", real)
        edge.use_rules(HOLDS)
        assert (await edge.client.put(REPOSITORY, TAG, TWO)).status == 201
        return await real(*arguments, **named)

    monkeypatch.setattr(register, "intend", after_the_change)
    assert (await edge.client.put(REPOSITORY, TAG, ONE)).status == 409
    assert (await edge.client.pull(REPOSITORY, TAG)).digest == TWO.digest


async def test_h103_so_is_one_of_several_tags_that_waited_for_the_claim_of_another(edge: RunningEdge) -> None:
    await prepared(edge, exception_ends)
    register = edge.parts.register
    other = Content(digest=THREE.digest, needs=frozenset({THREE.digest}))
    await register.claim(REPOSITORY, "2.0", other, token="t", lease_ms=60_000)
    path = f"/v2/{REPOSITORY}/manifests/{TWO.digest}?tag={TAG}&tag=2.0"
    waiting = asyncio.create_task(edge.client.ask("PUT", path, TWO.body, Content_Type=TWO.media_type))
    while (await register.read(REPOSITORY, TAG)).claim is None:
        await asyncio.sleep(0.01)
    await exception_ends(edge)
    await register.release(REPOSITORY, "2.0", token="t", event=None)
    assert (await waiting).status == 409
    for tag, held in ((TAG, ONE.digest), ("2.0", None)):
        found = await register.read(REPOSITORY, tag)
        assert (found.claim, found.committed.digest if found.committed else None) == (None, held)
