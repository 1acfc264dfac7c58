"""Pushes that are harmless, that look harmless, or that clients make in an unlucky order (H9, H15, H19, H20)."""

from __future__ import annotations

import asyncio
import json

import pytest

from immuproxy.ledger.model import Outcome
from immuproxy.oci.manifests import DOCKER_LIST, OCI_INDEX
from tests.support.conversation import Client, Image, RunningEdge, image, index
from tests.support.servers import RegistryServer

REPOSITORY = "team/app"


def writes(registry: RegistryServer) -> int:
    """Pushes that the registry has taken or refused so far, as its access log counts them."""
    return registry.log.count("http.request.method=PUT")


async def test_h15_a_needed_manifest_pushed_by_digest_again_writes_nothing(
    edge: RunningEdge, registry: RegistryServer
) -> None:
    pushed = index(image("amd"), image("arm"))
    await edge.client.push(REPOSITORY, "1.0", pushed)
    before = writes(registry)
    for again in (pushed, *pushed.children):
        answer = await edge.client.put(REPOSITORY, again.digest, again)
        assert (answer.status, answer.digest) == (201, again.digest)
    assert writes(registry) == before
    assert [event.outcome for event in (await edge.events(REPOSITORY))[-3:]] == [Outcome.UNCHANGED] * 3


async def test_h15_a_moving_tag_set_to_a_protected_manifest_breaks_no_reader(edge: RunningEdge) -> None:
    """On 2.8 each such push truncates the manifest's link for a moment, and readers straight at it get 500."""
    pushed = image("one")
    await edge.client.push(REPOSITORY, "1.0", pushed)
    done = asyncio.Event()

    async def write(client: Client) -> None:
        while not done.is_set():
            assert (await client.put(REPOSITORY, "latest", pushed)).status == 201

    async def read(client: Client) -> set[int]:
        statuses = set()
        while not done.is_set():
            statuses.add((await client.pull(REPOSITORY, "1.0")).status)
        return statuses

    async def read_until_broken() -> None:
        while (await edge.direct.pull(REPOSITORY, "1.0")).status != 500:
            pass
        done.set()

    async with asyncio.timeout(50):
        writers = (write(edge.client), write(edge.direct), write(edge.direct))
        *_, ours, _ = await asyncio.gather(*writers, read(edge.client), read_until_broken())
    assert ours == {200}


async def test_h16_a_moving_tag_whose_link_a_crash_left_empty_takes_the_next_push(
    edge: RunningEdge, registry: RegistryServer
) -> None:
    await edge.client.push(REPOSITORY, "latest", image("one"))
    (link,) = registry.storage.glob(f"**/{REPOSITORY}/_manifests/tags/latest/current/link")
    link.write_text("")
    assert (await edge.direct.pull(REPOSITORY, "latest")).status == 500
    assert (await edge.client.push(REPOSITORY, "latest", image("two"))).status == 201
    assert (await edge.client.pull(REPOSITORY, "latest")).digest == image("two").digest


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
async def test_h19_a_platform_pushed_to_the_tag_before_its_index_is_named_as_the_cause(
    edge: RunningEdge, media_type: str
) -> None:
    first, second = image("amd"), image("arm")
    made = index(first, second)
    whole = Image(json.dumps(json.loads(made.body) | {"mediaType": media_type}).encode(), media_type)
    assert (await edge.client.push(REPOSITORY, "1.0", first)).status == 201
    assert (await edge.client.push(REPOSITORY, "1.0", second)).status == 409
    await edge.client.push(REPOSITORY, second.digest, second)
    answer = await edge.client.put(REPOSITORY, "1.0", whole)
    assert (answer.status, answer.error["code"]) == (409, "DENIED")
    assert "pushed a platform's manifest to the tag before the index" in answer.error["message"]
    assert "docker buildx 0.22 or newer" in answer.error["message"]
    assert (await edge.client.pull(REPOSITORY, "1.0")).digest == first.digest


async def test_h19_another_index_is_not_blamed_on_the_client(edge: RunningEdge) -> None:
    await edge.client.push(REPOSITORY, "1.0", image("amd"))
    answer = await edge.client.push(REPOSITORY, "1.0", index(image("other"), image("arm")))
    assert answer.status == 409
    assert "before the index" not in answer.error["message"]


async def test_h20_a_rebuild_is_refused_in_words_that_tell_what_would_be_accepted(edge: RunningEdge) -> None:
    built, rebuilt = image("build at 10:00"), image("build at 10:05")
    await edge.client.push(REPOSITORY, "1.0", built)
    answer = await edge.client.push(REPOSITORY, "1.0", rebuilt)
    assert answer.status == 409
    assert built.digest in answer.error["message"]
    assert "the digest that it holds would be accepted again" in answer.error["message"]
    for _ in range(3):
        assert (await edge.client.push(REPOSITORY, "1.0", built)).status == 201


async def test_h9_tags_that_differ_in_case_are_two_tags(edge: RunningEdge) -> None:
    for tag, seed in (("V1", "upper"), ("v1", "lower")):
        assert (await edge.client.push(REPOSITORY, tag, image(seed))).status == 201
    for tag, seed in (("V1", "upper"), ("v1", "lower")):
        assert (await edge.client.pull(REPOSITORY, tag)).digest == image(seed).digest


async def test_h9_where_the_storage_folds_case_the_second_spelling_finds_the_first_ones_content(
    edge: RunningEdge, registry: RegistryServer
) -> None:
    """A link stands for a file system that knows one directory for both."""
    await edge.client.push(REPOSITORY, "v1", image("one"))
    tags = registry.storage / f"docker/registry/v2/repositories/{REPOSITORY}/_manifests/tags"
    (tags / "V1").symlink_to("v1")
    answer = await edge.client.push(REPOSITORY, "V1", image("two"))
    assert answer.status == 409
    assert answer.error["detail"]["current_digest"] == image("one").digest
    assert (await edge.direct.pull(REPOSITORY, "v1")).digest == image("one").digest
