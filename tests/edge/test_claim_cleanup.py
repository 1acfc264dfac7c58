"""A push that loses touch with Redis on its way leaves nothing that keeps others waiting (H65)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from immuproxy.edge.push import claim_cleanup, retry
from immuproxy.ledger import keys
from immuproxy.ledger.model import State
from immuproxy.store.redis import LedgerUnavailableError
from tests.invariants.test_owner_gone import leave_armed
from tests.support.conversation import Image, RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY, TAG = "team/app", "1.0"
SOON = 5.0


@pytest.fixture
async def edge(
    registry: RegistryServer, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RunningEdge]:
    monkeypatch.setattr(claim_cleanup, "PAUSE", 0.1)
    async with edge_over(registry.url, redis_server.url, redis_timeout=0.5) as running:
        for seed in ("ours", "other"):
            await running.direct.blobs(REPOSITORY, image(seed))
        await running.client.push("warm/up", "1.0", image("warm"))
        yield running


def stop_before(edge: RunningEdge, step: str, redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis stands still from when `step` is sent until its caller has given up; then it takes the step after all."""
    way = "in_one_trip" if step == "claim" else "durable_script"
    real: Callable[..., Any] = getattr(edge.store, way)

    async def unlucky(*arguments: Any) -> Any:
        if step not in (arguments[0], getattr(arguments[-1], "name", "")):
            return await real(*arguments)
        monkeypatch.setattr(edge.store, way, real)
        await asyncio.to_thread(redis.pause)
        try:
            return await real(*arguments)
        finally:
            redis.resume()

    monkeypatch.setattr(edge.store, way, unlucky)


async def others_succeed(edge: RunningEdge) -> None:
    async with asyncio.timeout(SOON):
        assert (await edge.client.put(REPOSITORY, TAG, image("other"))).status == 201


@pytest.mark.parametrize("step", ["claim", "arm"])
async def test_h65_a_claim_that_nobody_knows_of_is_given_back(
    edge: RunningEdge, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    stop_before(edge, step, redis_server, monkeypatch)
    answer = await edge.client.put(REPOSITORY, TAG, image("ours"))
    assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
    await others_succeed(edge)
    assert not await edge.parts.register.intents(REPOSITORY)
    assert not await edge.parts.register.is_pinned(REPOSITORY, image("ours").digest)


async def test_h65_the_first_try_may_come_before_the_claim(edge: RunningEdge, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command was on its way when its caller gave up, and is taken after the first try to give it back."""
    register = edge.parts.register
    real, give_back = register.claim, register.give_back
    tried, taken = asyncio.Event(), asyncio.Event()
    monkeypatch.setattr(retry, "AT_ONCE", -1.0)  # it took too long to be tried again at once

    async def seen(*arguments: Any, **named: Any) -> Any:
        step = await give_back(*arguments, **named)
        tried.set()
        return step

    async def delayed(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(register, "claim", real)

        async def later() -> None:
            await tried.wait()
            await real(*arguments, **named)
            taken.set()

        task = asyncio.create_task(later())
        task.add_done_callback(lambda _: None)
        raise LedgerUnavailableError("timed out")

    monkeypatch.setattr(register, "give_back", seen)
    monkeypatch.setattr(register, "claim", delayed)
    assert (await edge.client.put(REPOSITORY, TAG, image("ours"))).status == 503
    await taken.wait()
    await others_succeed(edge)


async def test_h62_what_may_have_been_sent_stays_for_its_content(
    edge: RunningEdge, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit is lost for good; the tag shows the content, and whoever comes next finishes it at once."""
    register = edge.parts.register

    async def lost(*_: Any, **__: Any) -> Any:
        raise LedgerUnavailableError("gone")

    real = register.commit
    monkeypatch.setattr(register, "commit", lost)
    assert (await edge.client.put(REPOSITORY, TAG, image("ours"))).status == 503
    monkeypatch.setattr(register, "commit", real)
    async with asyncio.timeout(SOON):
        assert (await edge.client.put(REPOSITORY, TAG, image("other"))).status == 409
    assert (await edge.client.pull(REPOSITORY, TAG)).digest == image("ours").digest


async def left(edge: RunningEdge, pushed: Image) -> None:
    await leave_armed(edge, pushed, lease_ms=0)
    assert len(await edge.parts.register.intents(REPOSITORY)) == 1


async def test_h62_what_was_taken_over_from_a_lost_proxy_is_not_given_back(
    edge: RunningEdge, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner's push may still land; so other content waits, and the same content goes on at once."""
    await left(edge, image("ours"))
    stop_before(edge, "claim", redis_server, monkeypatch)
    assert (await edge.client.put(REPOSITORY, TAG, image("ours"))).status == 503
    assert (await edge.client.put(REPOSITORY, TAG, image("other"))).status == 503
    found = await edge.parts.register.read(REPOSITORY, TAG)
    assert found.claim is not None
    assert (found.claim.state, found.claim.digest) == (State.ARMED, image("ours").digest)
    assert len(await edge.parts.register.intents(REPOSITORY)) == 1
    async with asyncio.timeout(SOON):
        assert (await edge.client.put(REPOSITORY, TAG, image("ours"))).status == 201


async def test_h11_of_several_tags_all_claims_are_given_back(
    edge: RunningEdge, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    register = edge.parts.register
    real = register.claim

    async def lost_third(repository: str, tag: str, *arguments: Any, **named: Any) -> Any:
        reply = await real(repository, tag, *arguments, **named)
        if tag != "c":
            return reply
        monkeypatch.setattr(register, "release", gone)
        raise LedgerUnavailableError("gone")

    async def gone(*_: Any, **__: Any) -> Any:
        raise LedgerUnavailableError("gone")

    monkeypatch.setattr(register, "claim", lost_third)
    ours = image("ours")
    path = f"/v2/{REPOSITORY}/manifests/a?tag=b&tag=c"
    answer = await edge.client.ask("PUT", path, ours.body, Content_Type=ours.media_type)
    assert answer.status == 503
    async with asyncio.timeout(SOON):
        while await edge.store.client.hkeys(keys.pins(REPOSITORY)):
            await asyncio.sleep(0.02)
    for tag in "abc":
        assert (await register.read(REPOSITORY, tag)).claim is None
