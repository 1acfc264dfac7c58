"""What the registry says of a PUT is believed; whether its link shows it is looked at behind the answer (H137)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from multidict import CIMultiDict

from immuproxy.ledger.model import Action, Outcome
from immuproxy.store import cancelling
from tests.support.between import Between, Request, between, pass_on
from tests.support.conversation import Answer, Client, RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY = "team/app"
OURS, OTHER = image("ours"), image("other")
ASKED = ("GET", f"/v2/{REPOSITORY}/manifests/1.0")


@pytest.fixture
async def relay(registry: RegistryServer) -> AsyncIterator[Between]:
    async with between(registry.url) as standing:
        yield standing


@pytest.fixture
async def edge(relay: Between, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    async with edge_over(relay.url, redis_server.url) as running:
        healing = asyncio.create_task(running.parts.healer.run())
        yield running
        await cancelling.end({healing})


async def test_h137_a_push_does_not_wait_for_a_look_at_its_link(edge: RunningEdge, relay: Between) -> None:
    looked, over = asyncio.Event(), asyncio.Event()

    async def slow_after_the_put(request: Request) -> Answer | None:
        if (request.method, request.target) == ASKED and ("PUT", ASKED[1]) in relay.asked:
            looked.set()
            await over.wait()
        return await request.forward()

    relay.act = slow_after_the_put
    async with asyncio.timeout(10):
        assert (await edge.client.push(REPOSITORY, "1.0", OURS)).status == 201
        await looked.wait()
    over.set()


async def test_h137_a_link_that_moved_right_after_the_put_is_found_and_healed(
    edge: RunningEdge, relay: Between, registry: RegistryServer
) -> None:
    straight = Client(registry.url, edge.client.session)
    await straight.push(REPOSITORY, "0.9", OTHER)

    async def overtaken(request: Request) -> Answer | None:
        answer = await request.forward()
        if request.is_manifest_put:
            await straight.push(REPOSITORY, "1.0", OTHER)
        return answer

    relay.act = overtaken
    assert (await edge.client.push(REPOSITORY, "1.0", OURS)).status == 201
    relay.act = pass_on
    async with asyncio.timeout(10):
        while (await straight.pull(REPOSITORY, "1.0")).digest != OURS.digest:
            await asyncio.sleep(0.01)
    found = [event.outcome for event in await edge.events(REPOSITORY) if event.action is Action.DRIFT]
    assert found == [Outcome.FOUND]


@pytest.mark.parametrize("told", ["", OTHER.digest])
async def test_h137_an_answer_that_does_not_name_the_digest_is_not_believed(
    edge: RunningEdge, relay: Between, told: str
) -> None:
    """As from something in front of the registry that answers by itself."""

    async def empty_promise(request: Request) -> Answer | None:
        if request.is_manifest_put:
            return Answer(201, CIMultiDict({"Docker-Content-Digest": told} if told else {}), b"")
        return await request.forward()

    relay.act = empty_promise
    assert (await edge.client.push(REPOSITORY, "1.0", OURS)).status == 503
    relay.act = pass_on
    assert (await edge.client.pull(REPOSITORY, "1.0")).status == 404
