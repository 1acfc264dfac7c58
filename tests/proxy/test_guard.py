"""The protocol of a guarded push, on a real registry and a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from immuproxy.ledger.model import Outcome
from tests.conversation import Image, RunningEdge, edge_over, image, index
from tests.servers import RedisServer, RegistryServer


@pytest.fixture
async def edge(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    async with edge_over(registry.url, redis_server.url) as running:
        yield running


async def test_the_first_push_is_stored_and_recorded(edge: RunningEdge) -> None:
    pushed = image("one")
    answer = await edge.client.push("team/app", "1.0", pushed)
    assert answer.status == 201
    assert answer.digest == pushed.digest
    assert answer.headers["Location"] == f"{edge.client.url}/v2/team/app/manifests/{pushed.digest}"
    assert (await edge.client.pull("team/app", "1.0")).body == pushed.body
    (event,) = await edge.events("team/app")
    assert (event.outcome, event.tag, event.digest) == (Outcome.CREATED, "1.0", pushed.digest)
    assert event.time > 0


async def test_h13_other_content_under_the_same_tag_is_refused(edge: RunningEdge) -> None:
    first, second = image("one"), image("two")
    await edge.client.push("team/app", "1.0", first)
    answer = await edge.client.push("team/app", "1.0", second)
    assert answer.status == 409
    assert answer.error["code"] == "DENIED"
    assert "cannot be overwritten because the tag is immutable" in answer.error["message"]
    assert answer.error["detail"]["current_digest"] == first.digest
    assert answer.error["detail"]["pushed_digest"] == second.digest
    assert (await edge.direct.pull("team/app", "1.0")).digest == first.digest
    refused = (await edge.events("team/app"))[-1]
    assert refused.outcome is Outcome.REFUSED
    assert refused.id == answer.error["detail"]["event"]


async def test_h14_the_same_content_again_is_fine_and_writes_nothing_upstream(
    edge: RunningEdge, registry: RegistryServer
) -> None:
    pushed = image("one")
    await edge.client.push("team/app", "1.0", pushed)
    before = registry.log.count("http.request.method=PUT")
    answer = await edge.client.put("team/app", "1.0", pushed)
    assert answer.status == 201
    assert answer.digest == pushed.digest
    assert registry.log.count("http.request.method=PUT") == before
    assert [event.outcome for event in await edge.events("team/app")] == [Outcome.CREATED, Outcome.UNCHANGED]


async def test_a_moving_tag_moves_and_every_move_is_recorded(edge: RunningEdge) -> None:
    for seed in ("one", "two", "two"):
        assert (await edge.client.push("team/app", "latest", image(seed))).status == 201
    events = await edge.events("team/app")
    assert [event.outcome for event in events] == [Outcome.CREATED, Outcome.OVERWRITTEN, Outcome.UNCHANGED]
    assert (await edge.client.pull("team/app", "latest")).digest == image("two").digest


async def test_an_index_brings_its_children_into_the_pins(edge: RunningEdge) -> None:
    pushed = index(image("amd"), image("arm"))
    assert (await edge.client.push("team/app", "2.0", pushed)).status == 201
    for child in pushed.children:
        assert await edge.parts.register.is_pinned("team/app", child.digest)
        answer = await edge.client.ask("DELETE", f"/v2/team/app/manifests/{child.digest}")
        assert answer.status == 405
        assert answer.error["code"] == "UNSUPPORTED"
    assert (await edge.client.pull("team/app", "2.0")).body == pushed.body


async def test_h71_a_tag_that_predates_the_proxy_is_adopted(edge: RunningEdge) -> None:
    old = image("old")
    await edge.direct.push("team/app", "0.9", old)
    answer = await edge.client.push("team/app", "0.9", image("new"))
    assert answer.status == 409
    assert answer.error["detail"]["current_digest"] == old.digest
    assert [event.outcome for event in await edge.events("team/app") if event.tag] == [
        Outcome.ADOPTED,
        Outcome.REFUSED,
    ]


@pytest.mark.parametrize("round_", range(3))
async def test_i3_two_proxies_many_pushers_one_winner(
    registry: RegistryServer, redis_server: RedisServer, round_: int
) -> None:
    async with (
        edge_over(registry.url, redis_server.url) as left,
        edge_over(registry.url, redis_server.url) as right,
    ):
        contents = [image(f"{round_} {number}") for number in range(8)]
        for pushed in contents:
            await left.client.blobs("team/app", pushed)

        async def push(number: int, pushed: Image) -> int:
            edge = (left, right)[number % 2]
            return (await edge.client.put("team/app", "1.0", pushed)).status

        statuses = await asyncio.gather(*(push(number, pushed) for number, pushed in enumerate(contents)))
        assert sorted(statuses) == [201] + [409] * 7
        winner = contents[statuses.index(201)]
        for edge in (left, right):
            assert (await edge.client.pull("team/app", "1.0")).digest == winner.digest
