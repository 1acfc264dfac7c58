"""Drift is found, told once, and healed from the stored bytes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable

import pytest
from redis.asyncio.sentinel import MasterNotFoundError

from immuproxy.drift.service import service_caller
from immuproxy.ledger.content import Content
from immuproxy.ledger.model import Action, Outcome
from immuproxy.service.assembly import Choices
from immuproxy.store.redis import LedgerUnavailableError
from tests.support.conversation import RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer


@pytest.fixture
async def edge(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    async with edge_over(registry.url, redis_server.url) as running:
        healing = asyncio.create_task(running.parts.healer.run())
        yield running
        healing.cancel()


async def history(edge: RunningEdge) -> list[tuple[Action, Outcome]]:
    return [(event.action, event.outcome) for event in await edge.events("team/app") if event.action is not Action.PUSH]


async def agreed(edge: RunningEdge, digest: str) -> None:
    async with asyncio.timeout(5):
        while (await edge.direct.pull("team/app", "1.0")).digest != digest:
            await asyncio.sleep(0.01)
        while await edge.parts.register.drifts("team/app"):
            await asyncio.sleep(0.01)


async def test_h28_a_read_of_a_moved_tag_heals_it_and_is_told_once(edge: RunningEdge) -> None:
    ours = image("ours")
    await edge.client.push("team/app", "1.0", ours)
    await edge.direct.push("team/app", "1.0", image("other"))
    answers = await asyncio.gather(*(edge.client.pull("team/app", "1.0") for _ in range(10)))
    assert {answer.digest for answer in answers} == {ours.digest}
    await agreed(edge, ours.digest)
    assert await history(edge) == [(Action.DRIFT, Outcome.FOUND), (Action.REPAIR, Outcome.HEALED)]


async def test_h99_what_may_be_an_old_masters_word_heals_nothing(edge: RunningEdge) -> None:
    """Where the Sentinels do not confirm that the master is still the master."""
    other = image("other")
    await edge.client.push("team/app", "1.0", image("ours"))
    found = await edge.parts.register.read("team/app", "1.0")
    await edge.direct.push("team/app", "1.0", other)

    async def choosing() -> None:
        raise MasterNotFoundError

    edge.store._confirming = choosing
    with pytest.raises(LedgerUnavailableError):
        await edge.parts.healer.check(found)
    assert (await edge.direct.pull("team/app", "1.0")).digest == other.digest


async def test_h37_the_sweep_finds_what_nobody_reads(edge: RunningEdge, registry: RegistryServer) -> None:
    ours = image("ours")
    await edge.client.push("team/app", "1.0", ours)
    shutil.rmtree(registry.storage / "docker/registry/v2/repositories/team/app/_manifests/tags/1.0")
    found = await edge.parts.register.read("team/app", "1.0")
    assert await edge.parts.healer.check(found)
    assert (await edge.direct.pull("team/app", "1.0")).digest == ours.digest
    assert await edge.parts.healer.check(found)
    assert await history(edge) == [(Action.DRIFT, Outcome.FOUND), (Action.REPAIR, Outcome.HEALED)]


async def test_h16_damage_that_a_push_cannot_heal_is_told_and_stays_open(
    edge: RunningEdge, registry: RegistryServer
) -> None:
    ours = image("ours")
    await edge.client.push("team/app", "1.0", ours)
    blob = ours.digest[7:]
    (registry.storage / f"docker/registry/v2/blobs/sha256/{blob[:2]}/{blob}/data").write_bytes(b"")
    answer = await edge.client.pull("team/app", "1.0")
    assert (answer.status, answer.body) == (200, ours.body)
    async with asyncio.timeout(5):
        while len(await history(edge)) < 2:
            await asyncio.sleep(0.01)
    assert await history(edge) == [(Action.DRIFT, Outcome.FOUND), (Action.REPAIR, Outcome.FAILED)]
    (finding,) = await edge.parts.register.drifts("team/app")
    assert finding.tag == "1.0"


async def test_where_the_upstream_asks_for_credentials_the_proxy_heals_with_its_own(
    start_registry: Callable[..., RegistryServer], redis_server: RedisServer
) -> None:
    registry = start_registry(htpasswd={"alice": "secret", "immuproxy": "secret"})
    choices = Choices(manifest_timeout=5.0, service=service_caller("immuproxy", "secret"))
    async with edge_over(registry.url, redis_server.url, choices=choices) as edge:
        ours, alice = image("ours"), edge.client.as_user("alice")
        await alice.push("team/app", "1.0", ours)
        await edge.direct.as_user("alice").push("team/app", "1.0", image("other"))
        found = await edge.parts.register.read("team/app", "1.0")
        assert await edge.parts.healer.check(found)
        assert (await edge.direct.as_user("alice").pull("team/app", "1.0")).digest == ours.digest


async def test_h64_a_claim_that_a_lost_proxy_left_does_not_keep_a_tag_from_being_healed(edge: RunningEdge) -> None:
    """It was never armed, so nothing was sent."""
    ours, next_one = image("ours"), image("next")
    await edge.client.push("team/app", "1.0", ours)
    content = Content(digest=next_one.digest, needs=frozenset({next_one.digest}))
    await edge.parts.register.claim(
        "team/app", "1.0", content, token="gone", lease_ms=1, over_generation=1, over_digest=ours.digest
    )
    await edge.direct.push("team/app", "1.0", image("other"))
    assert await edge.parts.healer.check(await edge.parts.register.read("team/app", "1.0"))
    assert (await edge.direct.pull("team/app", "1.0")).digest == ours.digest
