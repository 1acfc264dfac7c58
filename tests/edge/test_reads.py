"""Reads of protected tags follow the ledger, whatever the upstream shows."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace

import pytest
from multidict import CIMultiDict

from immuproxy.edge.closure import MAX_NEEDS
from immuproxy.oci.manifests import DOCKER_MANIFEST
from tests.support.between import Request, between
from tests.support.conversation import Answer, RunningEdge, edge_over, image, index
from tests.support.servers import RedisServer, RegistryServer


@pytest.fixture
def edge(edge_either_way: RunningEdge) -> RunningEdge:
    return edge_either_way


async def test_h28_a_tag_moved_behind_the_proxy_still_reads_as_committed(edge: RunningEdge) -> None:
    ours, other = image("ours"), image("other")
    await edge.client.push("team/app", "1.0", ours)
    await edge.direct.push("team/app", "1.0", other)
    for method in ("GET", "HEAD"):
        answer = await edge.client.pull("team/app", "1.0", method=method)
        assert (answer.status, answer.digest) == (200, ours.digest)
    assert (await edge.client.pull("team/app", "1.0")).body == ours.body


async def test_h16_a_tag_whose_link_is_gone_still_reads(edge: RunningEdge, registry: RegistryServer) -> None:
    pushed = image("one")
    await edge.client.push("team/app", "1.0", pushed)
    shutil.rmtree(registry.storage / "docker/registry/v2/repositories/team/app/_manifests/tags/1.0")
    assert (await edge.client.pull("team/app", "1.0")).body == pushed.body


async def test_a_manifest_that_the_upstream_has_lost_is_served_from_the_ledger(edge: RunningEdge) -> None:
    pushed = image("one")
    await edge.client.push("team/app", "1.0", pushed)
    await edge.direct.ask("DELETE", f"/v2/team/app/manifests/{pushed.digest}")
    answer = await edge.client.pull("team/app", "1.0")
    assert (answer.status, answer.body) == (200, pushed.body)
    head = await edge.client.pull("team/app", "1.0", method="HEAD")
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(pushed.body)))


async def test_h24_a_conditional_read_is_answered_after_the_content_was_seen(edge: RunningEdge) -> None:
    pushed = image("one")
    await edge.client.push("team/app", "1.0", pushed)
    path = "/v2/team/app/manifests/1.0"
    same = await edge.client.ask("GET", path, If_None_Match=f'"{pushed.digest}"', Accept=pushed.media_type)
    assert same.status == 304
    other = await edge.client.ask("GET", path, If_None_Match='"sha256:other"', Accept=pushed.media_type)
    assert (other.status, other.body) == (200, pushed.body)


async def test_h23_restricted_accepts_get_what_the_registry_gives(edge: RunningEdge) -> None:
    await edge.client.push("team/app", "1.0", image("one"))
    await edge.client.push("team/app", "2.0", index(image("one"), image("two")))
    for tag in ("1.0", "2.0"):
        for accept in ("*/*", DOCKER_MANIFEST, "application/json", "application/vnd.oci.image.manifest.v1+json"):
            for method in ("GET", "HEAD"):
                direct = await edge.direct.pull("team/app", tag, accept, method)
                ours = await edge.client.pull("team/app", tag, accept, method)
                assert (ours.status, ours.digest, ours.body) == (direct.status, direct.digest, direct.body)


async def test_h24_no_condition_of_a_client_reaches_the_upstream(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    """304 says nothing of the content, and would be taken for drift or for an upstream that is broken."""
    pushed = image("one")
    conditions = {
        "If-None-Match": f'"{pushed.digest}", *',
        "If-Modified-Since": "Mon, 23 Nov 2099 00:00:00 GMT",
        "Range": "bytes=0-1",
    }
    sent: list[str] = []

    async def note(request: Request) -> Answer | None:
        if request.method != "PUT" and "/manifests/" in request.target:
            sent.extend(name for name in request.headers if name.startswith("If-") or name == "Range")
        return await request.forward()

    async with between(registry.url, note) as middle, edge_over(middle.url, redis_server.url) as edge:
        path, asking = "/v2/team/app/manifests/1.0", replace(edge.client, headers=conditions)
        await edge.direct.blobs("team/app", pushed)
        for _ in range(2):
            answer = await asking.ask("PUT", path, pushed.body, Content_Type=pushed.media_type)
            assert answer.status == 201, answer.body
        for method in ("GET", "HEAD"):
            assert (await asking.ask(method, path, Accept=pushed.media_type)).status == 304
        answer = await edge.client.ask("GET", path, Accept=pushed.media_type, Range="bytes=0-1")
        assert (answer.status, answer.body) == (200, pushed.body)
    assert sent == []


async def test_h23_what_shows_for_a_moment_is_not_taken_for_the_registrys_way_of_hiding(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    """A client that does not accept what the tag holds is shown other content, moved there and back again."""
    ours, other = image("ours"), image("other")

    async def show_other(request: Request) -> Answer | None:
        if request.headers.get("Accept") != DOCKER_MANIFEST or not request.target.endswith("/1.0"):
            return await request.forward()
        told = {"Content-Type": DOCKER_MANIFEST, "Docker-Content-Digest": other.digest}
        return Answer(200, CIMultiDict(told), other.body)

    async with between(registry.url, show_other) as middle, edge_over(middle.url, redis_server.url) as edge:
        await edge.client.push("team/app", "1.0", ours)
        assert (await edge.client.pull("team/app", "1.0")).digest == ours.digest
        assert (await edge.client.pull("team/app", "1.0", DOCKER_MANIFEST)).digest == ours.digest


async def test_an_absent_tag_is_404_and_leaves_no_record(edge: RunningEdge) -> None:
    answer = await edge.client.pull("team/app", "1.0")
    assert answer.status == 404
    assert await edge.store.client.dbsize() == 0


async def test_h71_readers_and_a_pusher_of_an_old_tag_all_see_the_old_content(edge: RunningEdge) -> None:
    old, new = image("old"), image("new")
    await edge.direct.push("team/app", "1.0", old)
    await edge.client.blobs("team/app", new)
    reads = [edge.client.pull("team/app", "1.0") for _ in range(50)]
    *answers, pushed = await asyncio.gather(*reads, edge.client.put("team/app", "1.0", new))
    assert {(answer.status, answer.digest) for answer in answers} == {(200, old.digest)}
    assert pushed.status == 409


async def test_h74_writes_without_redis_are_refused_within_two_seconds(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    async with edge_over(registry.url, redis_server.url, redis_timeout=1.0) as edge:
        await edge.client.blobs("team/app", image("one"))
        redis_server.pause()
        try:
            async with asyncio.timeout(2.0):
                answer = await edge.client.put("team/app", "1.0", image("one"))
        finally:
            redis_server.resume()
        assert (await edge.direct.pull("team/app", "1.0")).status == 404
    assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
    assert "Redis" in answer.error["message"]
    assert answer.headers["Retry-After"]


async def test_h85_a_tag_that_needs_more_than_one_may_is_pulled_and_not_moved(edge: RunningEdge) -> None:
    """It predates the proxy, which cannot adopt it."""
    base = image("large")
    names = {f"k{number}": f"sha256:{number:064x}" for number in range(MAX_NEEDS)}
    large = replace(base, body=json.dumps(json.loads(base.body) | {"annotations": names}).encode())
    await edge.direct.push("team/app", "1.0", large)
    for reference in ("1.0", large.digest):
        for method, body in (("GET", large.body), ("HEAD", b"")):
            answer = await edge.client.pull("team/app", reference, method=method)
            assert (answer.status, answer.body) == (200, body)
    answer = await edge.client.push("team/app", "1.0", image("other"))
    assert (answer.status, answer.error["code"]) == (400, "UNSUPPORTED")
    assert (await edge.direct.pull("team/app", "1.0")).body == large.body
