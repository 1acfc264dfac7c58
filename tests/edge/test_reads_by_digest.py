"""Reads by digest of what protected tags need: clients ask for that once they have resolved a tag (H15, H16)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from immuproxy.oci.manifests import ACCEPT_ALL, DOCKER_MANIFEST
from tests.support.conversation import Answer, Client, RunningEdge, edge_over, image, index
from tests.support.servers import RedisServer, RegistryServer
from tests.support.wire import ask, request

REPOSITORY = "team/app"
METHODS = ("GET", "HEAD")


@pytest.fixture
def edge(edge_either_way: RunningEdge) -> RunningEdge:
    return edge_either_way


def seen(answer: Answer) -> tuple[int, str, bytes]:
    return answer.status, answer.digest, answer.body


def data_of(registry: RegistryServer, digest: str) -> Path:
    return registry.storage / f"docker/registry/v2/blobs/sha256/{digest[7:9]}/{digest[7:]}/data"


async def test_h31_what_a_tag_needs_and_the_registry_has_lost_is_given_from_the_ledger(edge: RunningEdge) -> None:
    pushed = index(image("amd"), image("arm"))
    await edge.client.push(REPOSITORY, "1.0", pushed)
    for lost in (pushed, *pushed.children):
        path = f"/v2/{REPOSITORY}/manifests/{lost.digest}"
        assert (await edge.direct.ask("DELETE", path)).status == 202
        assert seen(await edge.client.pull(REPOSITORY, lost.digest)) == (200, lost.digest, lost.body)
        head = await edge.client.pull(REPOSITORY, lost.digest, method="HEAD")
        assert (head.status, head.headers["Content-Length"]) == (200, str(len(lost.body)))
        same = await edge.client.ask("GET", path, Accept=ACCEPT_ALL, If_None_Match=f'"{lost.digest}"')
        assert same.status == 304


async def test_h15_a_link_that_is_written_again_breaks_no_reader_by_digest(edge: RunningEdge) -> None:
    """On 2.8 each push of a manifest that is there truncates its link for a moment."""
    pushed = image("one")
    await edge.client.push(REPOSITORY, "1.0", pushed)
    done = asyncio.Event()

    async def write(client: Client) -> None:
        while not done.is_set():
            assert (await client.put(REPOSITORY, "latest", pushed)).status == 201

    async def read(client: Client) -> set[int]:
        statuses = set()
        while not done.is_set():
            statuses.add((await client.pull(REPOSITORY, pushed.digest)).status)
        return statuses

    async def read_until_broken() -> None:
        broken = 0
        while broken < 5:
            broken += (await edge.direct.pull(REPOSITORY, pushed.digest)).status == 500
        done.set()

    async with asyncio.timeout(50):
        writers = (write(edge.client), write(edge.direct), write(edge.direct))
        *_, ours, _ = await asyncio.gather(*writers, read(edge.client), read_until_broken())
    assert ours == {200}


async def test_h25_bytes_that_were_changed_in_the_storage_are_not_passed_on(
    edge: RunningEdge, registry: RegistryServer
) -> None:
    pushed = image("one")
    await edge.client.push(REPOSITORY, "1.0", pushed)
    data_of(registry, pushed.digest).write_bytes(pushed.body.replace(b"octet-stream", b"octet-string"))
    assert b"octet-string" in (await edge.direct.pull(REPOSITORY, "1.0")).body
    for reference in ("1.0", pushed.digest):
        assert seen(await edge.client.pull(REPOSITORY, reference)) == (200, pushed.digest, pushed.body)


async def test_what_no_protected_tag_needs_is_read_as_without_the_proxy(edge: RunningEdge) -> None:
    moving = image("moving")
    await edge.client.push(REPOSITORY, "latest", moving)
    await edge.direct.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{moving.digest}")
    for method in METHODS:
        direct = await edge.direct.pull(REPOSITORY, moving.digest, method=method)
        assert direct.status == 404
        assert seen(await edge.client.pull(REPOSITORY, moving.digest, method=method)) == seen(direct)


@pytest.mark.parametrize("accept", ["*/*", "application/json", DOCKER_MANIFEST, ACCEPT_ALL])
async def test_h23_a_digest_is_read_with_any_accept_as_without_the_proxy(edge: RunningEdge, accept: str) -> None:
    pushed = index(image("amd"), image("arm"))
    await edge.client.push(REPOSITORY, "1.0", pushed)
    for reference in (pushed.digest, pushed.children[0].digest):
        for method in METHODS:
            direct = await edge.direct.pull(REPOSITORY, reference, accept, method)
            assert seen(await edge.client.pull(REPOSITORY, reference, accept, method)) == seen(direct)


async def test_without_redis_a_digest_is_read_from_the_registry(edge: RunningEdge, redis_server: RedisServer) -> None:
    pushed = image("one")
    await edge.client.push(REPOSITORY, "1.0", pushed)
    redis_server.kill()
    assert seen(await edge.client.pull(REPOSITORY, pushed.digest)) == (200, pushed.digest, pushed.body)


async def test_h55_strangers_get_nothing_by_digest(
    start_registry: Callable[..., RegistryServer], redis_server: RedisServer
) -> None:
    registry = start_registry(htpasswd={"alice": "secret"})
    async with edge_over(registry.url, redis_server.url) as edge:
        pushed, alice = image("one"), edge.client.as_user("alice")
        await alice.push(REPOSITORY, "1.0", pushed)
        path = f"/v2/{REPOSITORY}/manifests/{pushed.digest}"
        assert (await edge.direct.as_user("alice").ask("DELETE", path)).status == 202
        assert (await alice.pull(REPOSITORY, pushed.digest)).status == 200
        denied = await edge.client.pull(REPOSITORY, pushed.digest)
        assert (denied.status, denied.body) == (401, (await edge.direct.pull(REPOSITORY, pushed.digest)).body)


async def test_h24_every_value_of_if_none_match_counts(edge: RunningEdge) -> None:
    pushed = image("one")
    await edge.client.push(REPOSITORY, "1.0", pushed)
    conditions = [("If-None-Match", '"sha256:other", W/"x"'), ("If-None-Match", f'W/"{pushed.digest}"')]
    for reference in ("1.0", pushed.digest):
        raw = request("GET", f"/v2/{REPOSITORY}/manifests/{reference}", [("Accept", ACCEPT_ALL), *conditions])
        assert (await ask(edge.port, raw)).status == 304
