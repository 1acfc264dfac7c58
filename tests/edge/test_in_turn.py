"""Pushes of one moving tag through one proxy go one after the other, in the order in which they came (H116)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext

import pytest

from immuproxy.edge import bodies
from immuproxy.edge.push.in_turn import InTurn
from immuproxy.ledger.model import Outcome
from immuproxy.oci.errors import OciError
from immuproxy.service.assembly import Choices
from tests.support.between import Between, Request, between
from tests.support.conversation import Answer, RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer
from tests.support.wire import request, wire

REPOSITORY, TAG = "team/app", "latest"
MANIFEST = f"/v2/{REPOSITORY}/manifests/{TAG}"
IMAGES = [image(str(number)) for number in range(8)]
RACES = 20
LONGEST = 1.0
"""Seconds that a manifest may take at the edge of these tests."""


@pytest.fixture
async def standing(registry: RegistryServer) -> AsyncIterator[Between]:
    async with between(registry.url) as relay:
        yield relay


@pytest.fixture
async def edge(standing: Between, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    async with edge_over(standing.url, redis_server.url) as running:
        for each in IMAGES:
            await running.direct.blobs(REPOSITORY, each)
        yield running


class Held:
    """Holds the first PUT of a manifest back until it is let go; `arrived` is set when it is there."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.let_go = asyncio.Event()

    async def act(self, asked: Request) -> Answer:
        if asked.is_manifest_put and not self.arrived.is_set():
            self.arrived.set()
            await self.let_go.wait()
        return await asked.forward()


async def waiting(edge: RunningEdge, count: int) -> None:
    """Until so many pushes have their turn at the edge or wait for it."""
    while len(edge.parts.in_turn) != count:
        await asyncio.sleep(0.005)


async def test_h116_the_audit_ends_with_what_the_registry_holds_and_each_names_the_one_before(
    edge: RunningEdge,
) -> None:
    for race in range(RACES):
        tag = f"dev-{race}"
        pushes = [edge.client.put(REPOSITORY, tag, each) for each in IMAGES]
        assert {answer.status for answer in await asyncio.gather(*pushes)} == {201}
        told = [event for event in await edge.events(REPOSITORY) if event.tag == tag]
        assert told[-1].digest == (await edge.direct.pull(REPOSITORY, tag)).digest
        assert [event.previous_digest for event in told] == ["", *(event.digest for event in told[:-1])]
        assert [event.outcome for event in told] == [Outcome.CREATED, *[Outcome.OVERWRITTEN] * (len(IMAGES) - 1)]


async def test_h116_who_waits_asks_nothing_of_the_registry_and_keeps_its_place(
    edge: RunningEdge, standing: Between
) -> None:
    held = Held()
    standing.act = held.act
    pushes = [asyncio.create_task(edge.client.put(REPOSITORY, TAG, IMAGES[0]))]
    await held.arrived.wait()
    before = len(standing.asked)
    for count, each in enumerate(IMAGES[1:], start=2):
        pushes.append(asyncio.create_task(edge.client.put(REPOSITORY, TAG, each)))
        await waiting(edge, count)
    assert standing.asked[before:] == []
    assert (await edge.client.put(REPOSITORY, "main", IMAGES[0])).status == 201
    held.let_go.set()
    assert {answer.status for answer in await asyncio.gather(*pushes)} == {201}
    told = [event.digest for event in await edge.events(REPOSITORY) if event.tag == TAG]
    assert told == [each.digest for each in IMAGES]


async def test_h116_who_hangs_up_leaves_the_queue(edge: RunningEdge, standing: Between) -> None:
    held = Held()
    standing.act = held.act
    first = asyncio.create_task(edge.client.put(REPOSITORY, TAG, IMAGES[0]))
    await held.arrived.wait()
    async with wire(edge.port) as line:
        sent = [("Content-Type", IMAGES[1].media_type), ("Content-Length", str(len(IMAGES[1].body)))]
        await line.send(request("PUT", MANIFEST, sent) + IMAGES[1].body)
        await waiting(edge, 2)
    async with asyncio.timeout(2):
        await waiting(edge, 1)
    last = asyncio.create_task(edge.client.put(REPOSITORY, TAG, IMAGES[2]))
    await waiting(edge, 2)
    held.let_go.set()
    assert [(await push).status for push in (first, last)] == [201, 201]
    told = [event.digest for event in await edge.events(REPOSITORY)]
    assert told == [IMAGES[0].digest, IMAGES[2].digest]


async def test_h116_nobody_waits_longer_than_a_manifest_may_take(
    standing: Between, edge: RunningEdge, redis_server: RedisServer
) -> None:
    held = Held()
    async with edge_over(standing.url, redis_server.url, choices=Choices(manifest_timeout=LONGEST)) as hasty:
        assert (await hasty.client.put(REPOSITORY, TAG, IMAGES[0])).status == 201

        async def slow(asked: Request) -> Answer:
            if "/manifests/" in asked.target and asked.method == "GET":
                held.arrived.set()
                await held.let_go.wait()
            return await asked.forward()

        standing.act = slow
        clock = asyncio.get_running_loop().time
        first = asyncio.create_task(hasty.client.put(REPOSITORY, TAG, IMAGES[1]))
        await held.arrived.wait()
        began = clock()
        answers = await asyncio.gather(*(hasty.client.put(REPOSITORY, TAG, each) for each in IMAGES[2:5]))
        assert clock() - began < 3 * LONGEST
        assert {answer.status for answer in answers} == {503}
        assert any("another push of team/app:latest" in answer.error["message"] for answer in answers)
        held.let_go.set()
        assert (await first).status == 503
        standing.act = lambda asked: asked.forward()
        assert (await hasty.client.put(REPOSITORY, TAG, IMAGES[5])).status == 201


async def test_h116_who_waits_leaves_room_for_others_and_nothing_is_kept_of_tags_at_rest(
    edge: RunningEdge, standing: Between
) -> None:
    held = Held()
    standing.act = held.act
    pushes = [asyncio.create_task(edge.client.put(REPOSITORY, TAG, each)) for each in IMAGES]
    await held.arrived.wait()
    await waiting(edge, len(IMAGES))
    room = edge.parts.manifest_puts._room
    taken = bodies.ROOM - room._left - room._kept
    assert taken == sum(len(each.body) for each in IMAGES)
    held.let_go.set()
    await asyncio.gather(*pushes)
    assert room._left + room._kept == bodies.ROOM
    assert edge.parts.in_turn._places == {}


async def test_h120_who_comes_as_one_leaves_waits_no_longer_than_others() -> None:
    """The lock is free then, and is the next one's who waits."""
    turns, second_has_it, let_go = InTurn(0.05), asyncio.Event(), asyncio.Event()

    async def second() -> None:
        async with turns.alone(REPOSITORY, TAG, nullcontext):
            second_has_it.set()
            await let_go.wait()

    async def third() -> None:
        async with turns.alone(REPOSITORY, TAG, nullcontext):
            pass

    async with turns.alone(REPOSITORY, TAG, nullcontext):
        waits = asyncio.create_task(second())
        await asyncio.sleep(0)
        comes = asyncio.create_task(third())  # begins once this one has left, and before the second has heard of it
    await second_has_it.wait()
    done, _ = await asyncio.wait([comes], timeout=1)
    let_go.set()
    await waits
    assert comes in done
    with pytest.raises(OciError, match="another push"):
        await comes
