"""Upstreams that are not what they seem: a cache, a list with holes, two on one storage (H26, H27, H60)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from multidict import CIMultiDict
from yarl import URL

from immuproxy.drift.service import anonymous_service
from immuproxy.edge import listing
from immuproxy.edge.settings import Timeouts
from immuproxy.edge.upstream import UpstreamUnavailableError, opened
from immuproxy.ledger.model import Outcome
from immuproxy.ledger.safety import Safety
from immuproxy.service.health import NO_PUSHES, Health
from immuproxy.telemetry.metrics import Metrics
from tests.support.between import Request, between
from tests.support.conversation import Answer, RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY = "team/app"
TAGS = f"/v2/{REPOSITORY}/tags/list"


async def test_h26_a_pull_through_cache_says_no_in_its_own_words_and_is_named_by_the_readiness(
    start_registry: Callable[..., RegistryServer], redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    origin = start_registry()
    cache = start_registry(more={"proxy": {"remoteurl": origin.url}})
    async with edge_over(cache.url, redis_server.url) as edge:
        safety = Safety(edge.store, strict=True)
        await safety.look()
        health = Health(safety, edge.parts.epoch.clock, edge.parts.edge._upstream, Metrics())
        await health.check()
        answer = await edge.client.ask("POST", f"/v2/{REPOSITORY}/blobs/uploads/")
        assert (answer.status, answer.error["code"]) == (405, "UNSUPPORTED")
        upstream = {part.name: part for part in await health.parts()}["upstream"]
        assert (upstream.ok, NO_PUSHES in upstream.detail) == (True, True)
        await health.check()
        await health.check()
        assert capsys.readouterr().out.count(NO_PUSHES) == 1


async def test_h26_a_manifest_for_a_pull_through_cache_leaves_no_claim(
    start_registry: Callable[..., RegistryServer], redis_server: RedisServer
) -> None:
    origin = start_registry()
    cache = start_registry(more={"proxy": {"remoteurl": origin.url}})
    async with edge_over(cache.url, redis_server.url) as edge, edge_over(origin.url, redis_server.url) as source:
        await source.direct.blobs(REPOSITORY, image("one"))
        answer = await edge.client.put(REPOSITORY, "1.0", image("one"))
        assert (answer.status, answer.error["code"]) == (405, "UNSUPPORTED")
        found = await edge.parts.register.read(REPOSITORY, "1.0")
        assert (found.committed, found.claim) == (None, None)
        assert [event.outcome for event in await edge.events(REPOSITORY)] == [Outcome.FAILED]


async def test_h26_what_a_cache_fetched_again_is_not_shown(
    start_registry: Callable[..., RegistryServer], redis_server: RedisServer
) -> None:
    """Its tags move with their origin; readers of a tag that the ledger knows do not."""
    origin = start_registry()
    cache = start_registry(more={"proxy": {"remoteurl": origin.url}})
    async with edge_over(cache.url, redis_server.url) as edge, edge_over(origin.url, redis_server.url) as source:
        one, two = image("one"), image("two")
        await source.direct.push(REPOSITORY, "1.0", one)
        assert (await edge.client.pull(REPOSITORY, "1.0")).digest == one.digest
        await source.direct.push(REPOSITORY, "1.0", two)
        assert (await edge.direct.pull(REPOSITORY, "1.0")).digest == two.digest
        assert (await edge.client.pull(REPOSITORY, "1.0")).digest == one.digest


SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"


async def test_h17_a_tag_of_the_oldest_schema_is_adopted_under_the_digest_that_the_registry_gives_it(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    """Its digest is that of a part of its bytes; the two signatures of one such manifest do not change it."""
    body, digest = b'{"schemaVersion": 1, "signatures": []}', f"sha256:{'0c' * 32}"
    shown: list[bytes] = [body]

    async def old(request: Request) -> Answer | None:
        if request.method not in {"GET", "HEAD"} or not request.target.endswith(("manifests/old", digest)):
            return await request.forward()
        told = {"Content-Type": SCHEMA_1, "Docker-Content-Digest": digest}
        return Answer(200, CIMultiDict(told), shown[0])

    async with between(registry.url, old) as middle, edge_over(middle.url, redis_server.url) as edge:
        for reference in ("old", "old", digest):
            answer = await edge.client.pull(REPOSITORY, reference, accept=SCHEMA_1)
            assert (answer.status, answer.digest, answer.body) == (200, digest, body)
        answer = await edge.client.push(REPOSITORY, "old", image("new"))
        assert (answer.status, answer.error["detail"]["current_digest"]) == (409, digest)
        found = await edge.parts.register.read(REPOSITORY, "old")
        assert await edge.parts.healer.check(found)
        told = [event.outcome for event in await edge.events(REPOSITORY) if event.tag]
        assert told == [Outcome.ADOPTED, Outcome.REFUSED]


async def one_at_a_time(request: Request) -> Answer | None:
    """A registry that gives its list a name a page, as the specification lets it."""
    if not request.target.startswith(TAGS):
        return await request.forward()
    whole: list[str] = (await request.forward()).json["tags"] or []
    last = URL(request.target, encoded=True).query.get("last", "")
    left = [name for name in sorted(whole) if name > last]
    headers = CIMultiDict({"Content-Type": "application/json"})
    if len(left) > 1:
        headers["Link"] = f'<{TAGS}?n=1&last={left[0]}>; rel="next"'
    return Answer(200, headers, json.dumps({"name": REPOSITORY, "tags": left[:1]}).encode())


async def test_h27_a_tag_on_the_last_page_of_the_list_is_adopted_before_a_delete(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    async with between(registry.url, one_at_a_time) as middle, edge_over(middle.url, redis_server.url) as edge:
        for number in range(4):
            await edge.direct.push(REPOSITORY, f"1.{number}", image(f"old {number}"))
        answer = await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{image('old 3').digest}")
        assert answer.status == 405
        assert len([target for _, target in middle.asked if target.startswith(TAGS)]) == 4
        assert len(await edge.parts.register.tags(REPOSITORY)) == 4


async def test_h27_a_listed_tag_that_is_not_there_is_no_tag(edge: RunningEdge, registry: RegistryServer) -> None:
    await edge.direct.push(REPOSITORY, "old", image("old"))
    tags = registry.storage / f"docker/registry/v2/repositories/{REPOSITORY}/_manifests/tags"
    (tags / "ghost/index").mkdir(parents=True)
    assert "ghost" in (await edge.direct.ask("GET", TAGS)).json["tags"]
    assert (await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{image('old').digest}")).status == 405
    assert await edge.parts.register.tags(REPOSITORY) == ["old"]
    assert (await edge.client.pull(REPOSITORY, "ghost")).status == 404
    assert (await edge.client.push(REPOSITORY, "ghost", image("new"))).status == 201


async def test_h27_a_tag_that_the_list_leaves_out_is_found_by_its_name(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    async def forgetful(request: Request) -> Answer | None:
        answer = await request.forward()
        if request.target.startswith(TAGS) and answer.status == 200:
            return Answer(200, CIMultiDict({"Content-Type": "application/json"}), b'{"tags": null}')
        return answer

    async with between(registry.url, forgetful) as middle, edge_over(middle.url, redis_server.url) as edge:
        ours, old = image("ours"), image("old")
        await edge.client.push(REPOSITORY, "1.0", ours)
        await edge.direct.push(REPOSITORY, "old", old)
        assert (await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{ours.digest}")).status == 405
        assert (await edge.client.push(REPOSITORY, "old", image("new"))).status == 409


async def test_h27_a_list_that_leads_in_a_circle_ends(registry: RegistryServer) -> None:
    async def circle(_request: Request) -> Answer | None:
        return Answer(200, CIMultiDict({"Link": f'<{TAGS}?n=1&last=a>; rel="next"'}), b'{"tags": ["a"]}')

    async with between(registry.url, circle) as middle, opened(middle.url, timeouts=Timeouts()) as upstream:
        with pytest.raises(UpstreamUnavailableError, match="leads back"):
            await listing.tags(upstream, REPOSITORY, anonymous_service())


def storage_of(registry: RegistryServer) -> dict[str, Any]:
    return {"storage": {"filesystem": {"rootdirectory": str(registry.storage)}}}


async def test_h60_what_a_second_registry_on_the_same_storage_moved_still_reads_as_committed(
    start_registry: Callable[..., RegistryServer], redis_server: RedisServer
) -> None:
    first = start_registry()
    second = start_registry(more=storage_of(first))
    async with edge_over(first.url, redis_server.url) as left, edge_over(second.url, redis_server.url) as right:
        ours, other = image("ours"), image("other")
        await left.client.push(REPOSITORY, "1.0", ours)
        await right.direct.push(REPOSITORY, "1.0", other)
        for edge in (left, right):
            assert (await edge.client.pull(REPOSITORY, "1.0")).body == ours.body
            assert (await edge.client.put(REPOSITORY, "1.0", other)).status == 409


async def test_h60_what_one_registry_deleted_and_another_remembers_is_served_whole(
    start_registry: Callable[..., RegistryServer], redis_server: RedisServer
) -> None:
    first = start_registry()
    second = start_registry(more=storage_of(first))
    async with edge_over(second.url, redis_server.url) as edge, edge_over(first.url, redis_server.url) as other:
        ours = image("ours")
        await edge.client.push(REPOSITORY, "1.0", ours)
        await edge.client.pull(REPOSITORY, "1.0")
        assert (await other.direct.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{ours.digest}")).status == 202
        for running in (edge, other):
            answer = await running.client.pull(REPOSITORY, "1.0")
            assert (answer.status, answer.body) == (200, ours.body)
