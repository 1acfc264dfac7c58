"""A heal whose PUT the network holds up: nothing else takes the tag before that can no longer land (H121)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from immuproxy.edge.upstream import UpstreamUnavailableError
from immuproxy.service.assembly import Choices
from tests.support.between import Request, between
from tests.support.conversation import Answer, RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer

OVERWRITTEN = "default: immutable\nrules: [{name: open, tags: ['*'], policy: immutable, overwrite: [{within: 1h}]}]"
SHORT, LONG = Choices(manifest_timeout=0.6), Choices(manifest_timeout=5.0)
ONE, TWO, OTHER = image("one"), image("two"), image("other")


@dataclass
class HeldUp:
    """The next PUT of `ONE` that `came` to the relay goes on when `go` is set; then it has `landed`."""

    holds: bool = False
    came: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    landed: asyncio.Event = field(default_factory=asyncio.Event)

    async def act(self, request: Request) -> Answer | None:
        if not (self.holds and request.is_manifest_put and request.body == ONE.body):
            return await request.forward()
        self.holds = False
        self.came.set()
        await self.go.wait()
        answer = await request.forward()
        self.landed.set()
        return answer


@asynccontextmanager
async def drifted(
    registry: RegistryServer, redis_server: RedisServer, choices: Choices = SHORT
) -> AsyncIterator[tuple[RunningEdge, RunningEdge, HeldUp]]:
    """Two proxies, and a tag that somebody moved in the registry."""
    async with two_proxies(registry, redis_server, choices) as (left, right, held_up):
        await left.direct.push("team/app", "1.0", OTHER)
        yield left, right, held_up


@asynccontextmanager
async def two_proxies(
    registry: RegistryServer, redis_server: RedisServer, choices: Choices = SHORT
) -> AsyncIterator[tuple[RunningEdge, RunningEdge, HeldUp]]:
    """The second one behind a relay, the first one knows what the tag holds."""
    held_up = HeldUp()
    async with (
        between(registry.url, held_up.act) as relay,
        edge_over(registry.url, redis_server.url, rules=OVERWRITTEN, choices=choices) as left,
        edge_over(relay.url, redis_server.url, rules=OVERWRITTEN, choices=choices) as right,
    ):
        await left.client.push("team/app", "1.0", ONE)
        assert (await left.client.pull("team/app", "1.0")).digest == ONE.digest
        await right.client.blobs("team/app", TWO)
        held_up.holds = True
        try:
            yield left, right, held_up
        finally:
            held_up.go.set()


async def healed(edge: RunningEdge) -> bool:
    return await edge.parts.healer.check(await edge.parts.register.read("team/app", "1.0"))


async def pushed(edge: RunningEdge) -> None:
    """As a client that tries again."""
    async with asyncio.timeout(10):
        while (await edge.client.put("team/app", "1.0", TWO)).status != 201:
            pass


async def overwritten_before_it_lands(
    left: RunningEdge, right: RunningEdge, held_up: HeldUp, redis_server: RedisServer
) -> None:
    """What is held up is given out by nobody: the overwrite waits, and who reaches no Redis does not take it for the
    tag's.
    """
    early = await right.client.put("team/app", "1.0", TWO)
    held_up.go.set()
    await held_up.landed.wait()
    await pushed(right)
    await asyncio.sleep(right.parts.limits.quarantine)
    redis_server.kill()
    read = await left.client.pull("team/app", "1.0")
    assert (early.status, read.status, read.digest) == (503, 503, "")


async def test_h121_a_heal_that_arrives_late_is_not_taken_for_what_an_overwritten_tag_holds(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    """By a proxy that does not reach Redis just then, as at a failover, and knows the older content well."""
    async with drifted(registry, redis_server) as (left, right, held_up):
        with pytest.raises(UpstreamUnavailableError):
            await healed(right)
        await overwritten_before_it_lands(left, right, held_up, redis_server)


async def test_h121_neither_is_what_a_client_brings_back_late_that_the_registry_had_lost(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    async with two_proxies(registry, redis_server) as (left, right, held_up):
        kept = registry.storage / "docker/registry/v2/repositories/team/app/_manifests/revisions/sha256"
        shutil.rmtree(kept / ONE.digest.removeprefix("sha256:"))
        assert (await right.client.put("team/app", "1.0", ONE)).status == 503
        await overwritten_before_it_lands(left, right, held_up, redis_server)


async def test_h121_an_overwrite_waits_for_a_heal_only_until_that_has_landed(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    async with drifted(registry, redis_server, LONG) as (_, right, held_up):
        healing = asyncio.create_task(healed(right))
        await held_up.came.wait()
        pushing = asyncio.create_task(right.client.put("team/app", "1.0", TWO))
        done, _ = await asyncio.wait({pushing}, timeout=0.3)
        assert not done
        held_up.go.set()
        assert await healing
        assert (await pushing).status == 201
        assert (await right.direct.pull("team/app", "1.0")).digest == TWO.digest


async def test_h121_a_healer_that_stood_still_sends_nothing(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    async with drifted(registry, redis_server) as (left, right, held_up):
        limits = right.parts.limits

        async def standing_still() -> None:
            await asyncio.sleep(limits.lease - limits.put)

        right.store._confirming = standing_still
        with pytest.raises(UpstreamUnavailableError):
            await healed(right)
        assert not held_up.came.is_set()
        assert (await left.direct.pull("team/app", "1.0")).digest == OTHER.digest
