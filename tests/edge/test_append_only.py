"""Tags that may only grow: none of what they hold goes, changes, or is put behind something else (H21)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from immuproxy.edge.refusals import PHRASE
from immuproxy.ledger import keys
from immuproxy.oci.manifests import OCI_INDEX
from tests.support.conversation import Answer, Image, RunningEdge, edge_over, image, index
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY = "team/app"
ONE, TWO, THREE = image("one"), image("two"), image("three")


@pytest.fixture
async def edge(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    """The registry has three images, by digest alone."""
    async with edge_over(registry.url, redis_server.url, rules="default: append-only") as running:
        for pushed in (ONE, TWO, THREE):
            await running.direct.push(REPOSITORY, pushed.digest, pushed)
        yield running


WHOLE = json.loads(index(ONE, TWO, THREE).body)
FIRST, SECOND, THIRD = WHOLE["manifests"]
AMD, ARM = FIRST["platform"], SECOND["platform"]


async def put(edge: RunningEdge, *entries: dict[str, Any]) -> Answer:
    made = Image(json.dumps(WHOLE | {"manifests": entries}).encode(), OCI_INDEX)
    return await edge.client.put(REPOSITORY, "1.0", made)


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([FIRST, THIRD], id="one is dropped"),
        pytest.param([FIRST | {"platform": ARM}, SECOND | {"platform": AMD}], id="two change places"),
        pytest.param([THIRD | {"platform": AMD}, FIRST, SECOND], id="one is put before another of its platform"),
        pytest.param([FIRST | {"size": 1}, SECOND], id="a size is wrong, so it cannot be pulled"),
        pytest.param([FIRST | {"mediaType": "application/x"}, SECOND], id="a media type is wrong"),
    ],
)
async def test_h21_an_index_gives_no_platform_another_image(edge: RunningEdge, entries: list[dict[str, Any]]) -> None:
    held = await put(edge, FIRST, SECOND)
    assert held.status == 201
    answer = await put(edge, *entries)
    assert (answer.status, answer.error["code"]) == (409, "DENIED")
    assert (await edge.client.pull(REPOSITORY, "1.0")).digest == held.digest


async def test_h21_the_refusal_names_the_policy_and_what_would_be_taken(edge: RunningEdge) -> None:
    await put(edge, FIRST, SECOND)
    message = (await put(edge, FIRST, THIRD)).error["message"]
    assert message.startswith(f"tag {REPOSITORY}:1.0 {PHRASE} in what it lists already: it holds sha256:")
    assert "; the default (line 1) is append-only and the new index drops 1 of the 2 entries" in message
    assert message.endswith(". Push what keeps every entry that it holds, or use a new tag")


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([FIRST, SECOND, THIRD], id="one more platform"),
        pytest.param([FIRST, SECOND, THIRD | {"platform": AMD}], id="one more for the same platform"),
        pytest.param([SECOND, FIRST], id="another order"),
        pytest.param([FIRST | {"annotations": {"a": "b"}}, SECOND], id="a note beside an entry"),
    ],
)
async def test_h21_an_index_may_grow(edge: RunningEdge, entries: list[dict[str, Any]]) -> None:
    assert (await put(edge, FIRST, SECOND)).status == 201
    answer = await put(edge, *entries)
    assert answer.status == 201, answer.body
    assert (await edge.client.pull(REPOSITORY, "1.0")).digest == answer.digest


async def test_h95_a_signature_is_not_hidden_from_those_who_look_for_its_type(edge: RunningEdge) -> None:
    signature = FIRST | {"artifactType": "application/vnd.signature", "annotations": {"key": "one"}}
    assert (await put(edge, FIRST)).status == 201
    held = await put(edge, signature)
    assert held.status == 201
    for hidden in (FIRST, signature | {"artifactType": "x/y"}, signature | {"annotations": {"key": "two"}}):
        answer = await put(edge, hidden, SECOND)
        assert (answer.status, answer.error["code"]) == (409, "DENIED")
        assert FIRST["digest"] in answer.error["message"]
    assert (await edge.client.pull(REPOSITORY, "1.0")).digest == held.digest


async def test_h21_what_a_tag_holds_must_be_seen_before_it_grows(edge: RunningEdge) -> None:
    held = index(ONE, TWO)
    assert (await edge.client.put(REPOSITORY, "1.0", held)).status == 201
    await edge.direct.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{held.digest}")
    await edge.store.client.hdel(keys.manifests(REPOSITORY), held.digest)
    answer = await edge.client.put(REPOSITORY, "1.0", index(THREE))
    assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")


async def test_h21_an_older_index_that_is_read_in_two_ways_loses_nothing(edge: RunningEdge) -> None:
    """The registry takes keys in any case (H75).  Such a push is refused here, but the tag may be older than we are."""
    whole = index(ONE, TWO)
    odd = Image(whole.body.replace(b'"manifests"', b'"Manifests"'), whole.media_type)
    assert (await edge.direct.put(REPOSITORY, "1.0", odd)).status == 201
    assert (await edge.client.pull(REPOSITORY, "1.0")).digest == odd.digest
    assert (await edge.client.put(REPOSITORY, "1.0", index(ONE))).status == 409
    assert (await edge.client.put(REPOSITORY, "1.0", whole)).status == 201
