"""An overwrite that was cut off and given up is told as failed only where the registry never had its content (H123)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from immuproxy.drift.service import service_caller
from immuproxy.ledger.model import Event, Outcome, TagRecord
from immuproxy.ledger.register import Register
from immuproxy.service.assembly import Choices
from tests.drift.test_sweep import AT_ONCE, kill_at_the_put, sweep_of
from tests.support.between import Request, between
from tests.support.conversation import Answer, Image, RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY, TAG = "team/app", "o1"
ONE, TWO, THREE = image("one"), image("two"), image("three")
RULES = """
default: immutable
rules: [{name: overwritten, tags: ["o*"], policy: immutable, overwrite: [{networks: [127.0.0.0/8]}]}]
"""
PUT = 0.2
"""Seconds of a manifest request."""


@dataclass
class Late:
    """Holds back the first push of a manifest until it is let go, long after its sender has given it up."""

    held: Request | None = None
    first: bool = True
    sent: list[str] = field(default_factory=list)

    async def act(self, request: Request) -> Answer | None:
        if request.is_manifest_put:
            self.sent.append(request.target)
            if self.first:
                self.first, self.held = False, request
                return None
        return await request.forward()

    async def let_go(self) -> None:
        assert self.held is not None
        assert (await self.held.forward()).status == 201


@dataclass
class Stage:
    edge: RunningEdge
    late: Late

    async def push(self, pushed: Image, status: int = 201) -> Answer:
        answer = await self.edge.client.put(REPOSITORY, TAG, pushed)
        assert answer.status == status, answer
        return answer

    async def interrupted(self, pushed: Image, *, lands: bool) -> Event:
        """An overwrite whose proxy is gone once it has sent it, or just before; its intent."""
        with pytest.MonkeyPatch.context() as patched:
            kill_at_the_put(patched, lands=lands)
            await self.push(pushed, 500)
        (intent,) = await self.edge.parts.register.intents(REPOSITORY)
        return intent

    async def told(self, intent: Event) -> list[tuple[Outcome, int]]:
        events = await self.edge.events(REPOSITORY)
        return [(event.outcome, event.time) for event in events if event.id == intent.id]

    async def shown(self) -> str:
        return (await self.edge.direct.pull(REPOSITORY, TAG)).digest


@pytest.fixture
async def stage(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[Stage]:
    late = Late()
    async with (
        between(registry.url, late.act) as relay,
        edge_over(relay.url, redis_server.url, rules=RULES, choices=Choices(manifest_timeout=PUT)) as edge,
    ):
        for pushed in (ONE, TWO, THREE):
            await edge.direct.blobs(REPOSITORY, pushed)
        yield Stage(edge, late)


async def overwritten_and_undone(stage: Stage) -> Event:
    """The registry takes an overwrite, and then the first push once more, which had been on its way all the time."""
    await stage.push(ONE)
    assert len(stage.late.sent) == 2
    intent = await stage.interrupted(TWO, lands=True)
    assert await stage.shown() == TWO.digest
    await stage.late.let_go()
    assert await stage.shown() == ONE.digest
    return intent


async def test_h123_an_overwrite_that_a_late_push_undid_is_not_told_as_failed_by_the_sweep(stage: Stage) -> None:
    intent = await overwritten_and_undone(stage)
    await asyncio.sleep(0.002)  # the clock of the ledger counts milliseconds
    await sweep_of(stage.edge, lease=AT_ONCE).finish()
    assert await stage.told(intent) == [(Outcome.UNKNOWN, intent.time)]
    assert await stage.edge.parts.register.intents(REPOSITORY) == []
    await stage.push(THREE)


async def test_h123_an_overwrite_that_a_late_push_undid_is_not_told_as_failed_by_the_next_push(stage: Stage) -> None:
    intent = await overwritten_and_undone(stage)
    async with asyncio.timeout(20):
        while (answer := await stage.edge.client.put(REPOSITORY, TAG, THREE)).status == 503:
            await asyncio.sleep(float(answer.headers.get("Retry-After", 1)))
    assert answer.status == 201
    assert await stage.told(intent) == [(Outcome.UNKNOWN, intent.time)]
    assert (await stage.edge.events(REPOSITORY))[-1].previous_digest == ONE.digest


async def test_h123_one_that_a_push_of_the_same_content_takes_over_is_not_told_as_failed(stage: Stage) -> None:
    """Nobody has looked yet when its intent is closed, and the other push may come to nothing."""
    intent = await overwritten_and_undone(stage)
    await stage.push(TWO)
    assert await stage.told(intent) == [(Outcome.UNKNOWN, intent.time)]


async def test_h123_an_overwrite_whose_content_the_registry_never_had_is_told_as_failed(stage: Stage) -> None:
    await stage.push(ONE)
    intent = await stage.interrupted(TWO, lands=False)
    await asyncio.sleep(0.002)
    await sweep_of(stage.edge, lease=AT_ONCE).finish()
    assert await stage.told(intent) == [(Outcome.FAILED, intent.time)]


async def test_h125_who_saw_a_claim_before_it_was_taken_over_does_not_tell_of_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader whose look at the registry takes long: the claim has the same token, but is another push's by now."""
    stage.late.first = False
    await stage.push(ONE)
    first = await stage.interrupted(TWO, lands=False)
    parts, seen, arm = stage.edge.parts, list[TagRecord](), Register.arm

    async def late_to_arm(self: Register, *arguments: Any, **named: Any) -> Any:
        seen.append(await self.read(REPOSITORY, TAG))
        return await arm(self, *arguments, **named)

    monkeypatch.setattr(Register, "arm", late_to_arm)
    second = await stage.interrupted(TWO, lands=True)
    assert seen[0].claim is not None
    assert seen[0].claim.event == first.id != second.id
    rule = stage.edge.rules[0].match(REPOSITORY, TAG)
    caller = service_caller(None, None)
    assert not await parts.recovery.settle(seen[0], caller, rule)
    assert await parts.recovery.settle(await parts.register.read(REPOSITORY, TAG), caller, rule)
    told = (await stage.edge.events(REPOSITORY))[-1]
    assert (told.outcome, told.id, told.previous_digest) == (Outcome.OVERWRITTEN, second.id, ONE.digest)
