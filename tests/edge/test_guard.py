"""The protocol of a guarded push, on a real registry and a real Redis."""

from __future__ import annotations

import asyncio

import pytest

from immuproxy.edge.refusals import iso
from immuproxy.ledger import keys
from immuproxy.ledger.model import Outcome
from tests.support.conversation import Image, RunningEdge, edge_over, image, index
from tests.support.servers import RedisServer, RegistryServer


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


async def test_a_refusal_says_whether_the_tag_was_pushed_first_or_adopted_then(edge: RunningEdge) -> None:
    await edge.direct.push("team/app", "0.9", image("old"))
    await edge.client.push("team/app", "1.0", image("old"))
    adopted, pushed = [(await edge.client.push("team/app", tag, image("new"))).error for tag in ("0.9", "1.0")]
    found = (await edge.parts.register.read("team/app", "0.9")).committed
    assert found is not None
    assert (adopted["detail"]["adopted"], adopted["detail"]["first_pushed"]) == (True, iso(found.first))
    assert f"since {iso(found.first)}, when the proxy adopted it (it is older than that); " in adopted["message"]
    assert (pushed["detail"]["adopted"], "adopted" in pushed["message"]) == (False, False)


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


async def test_an_overwrite_needs_its_condition(edge: RunningEdge) -> None:
    edge.use_rules(WITHIN)
    first, second = image("one"), image("two")
    await edge.client.push("team/app", "1.0", first)
    answer = await edge.client.push("team/app", "1.0", second)
    assert answer.status == 201, answer.body
    assert (await edge.client.pull("team/app", "1.0")).digest == second.digest
    event = (await edge.events("team/app"))[-1]
    assert (event.outcome, event.previous_digest) == (Outcome.OVERWRITTEN, first.digest)
    assert not await edge.parts.register.is_pinned("team/app", first.digest)
    record = await edge.parts.register.read("team/app", "1.0")
    assert record.committed is not None
    assert record.committed.generation == 2
    edge.use_rules(WITHIN.replace("15m", "1ms"))
    await asyncio.sleep(0.01)
    assert (await edge.client.push("team/app", "1.0", image("three"))).status == 409


async def test_the_same_revision_may_overwrite(edge: RunningEdge) -> None:
    edge.use_rules(SAME)
    key = "org.opencontainers.image.revision"
    await edge.client.push("team/app", "1.0", image("one", labels={key: "abc"}))
    assert (await edge.client.push("team/app", "1.0", image("two", labels={key: "abc"}))).status == 201
    answer = await edge.client.push("team/app", "1.0", image("three", labels={key: "def"}))
    assert answer.status == 409


async def test_h21_an_append_only_index_grows(edge: RunningEdge) -> None:
    tag = "sha256-" + "a" * 64
    one, two, three = image("one"), image("two"), image("three")
    assert (await edge.client.push("team/app", tag, index(one))).status == 201
    assert (await edge.client.push("team/app", tag, index(one, two))).status == 201
    assert (await edge.client.push("team/app", tag, index(one, three))).status == 409
    record = await edge.parts.register.read("team/app", tag)
    assert record.committed is not None
    assert record.committed.digest == index(one, two).digest


async def test_a_frozen_repository_takes_nothing_new(edge: RunningEdge) -> None:
    edge.use_rules("default: frozen")
    answer = await edge.client.push("team/app", "1.0", image("one"))
    assert answer.status == 409
    record = await edge.parts.register.read("team/app", "1.0")
    assert (record.committed, record.claim) == (None, None)


async def test_shadow_mode_lets_everything_through_and_says_what_it_would_have_done(edge: RunningEdge) -> None:
    edge.use_rules(SHADOW)
    for seed in ("one", "two"):
        assert (await edge.client.push("team/app", "1.0", image(seed))).status == 201
    event = (await edge.events("team/app"))[-1]
    assert event.shadow
    assert "would have been refused" in event.reason


async def test_a_push_that_the_upstream_refuses_leaves_no_claim(edge: RunningEdge) -> None:
    answer = await edge.client.put("team/app", "1.0", image("without blobs"))
    assert answer.status == 400
    assert answer.error["code"] == "MANIFEST_BLOB_UNKNOWN"
    record = await edge.parts.register.read("team/app", "1.0")
    assert (record.committed, record.claim) == (None, None)
    (event,) = await edge.events("team/app")
    assert event.outcome is Outcome.FAILED
    assert not await edge.store.client.hgetall(keys.pins("team/app"))
    assert not await edge.store.client.hgetall(keys.intents("team/app"))


async def test_i12_nothing_of_the_ledger_ever_expires(edge: RunningEdge) -> None:
    await edge.client.push("team/app", "1.0", image("one"))
    await edge.client.push("team/app", "1.0", image("two"))
    async for key in edge.store.client.scan_iter():
        assert await edge.store.client.ttl(key) == -1, key


async def test_what_the_upstream_lost_is_brought_back_by_a_push_of_the_same_content(
    edge: RunningEdge, registry: RegistryServer
) -> None:
    pushed = image("one")
    await edge.client.push("team/app", "1.0", pushed)
    assert (await edge.direct.ask("DELETE", f"/v2/team/app/manifests/{pushed.digest}")).status == 202
    assert (await edge.client.put("team/app", "1.0", pushed)).status == 201
    assert (await edge.direct.pull("team/app", "1.0")).digest == pushed.digest


WITHIN = """
default: immutable
rules:
  - {name: fresh, repositories: ["**"], policy: immutable, overwrite: [{within: 15m}]}
"""

SAME = """
rules:
  - {name: same, policy: immutable, overwrite: [{same: org.opencontainers.image.revision}]}
"""

SHADOW = """
rules:
  - {name: tried, policy: immutable, mode: shadow}
"""
