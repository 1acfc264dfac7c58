"""The audit names the platform of a single image, which its config tells, and no push waits for that."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from multidict import CIMultiDict

from immuproxy.ledger.model import Event, Outcome, TagRecord
from immuproxy.oci.manifests import DOCKER_MANIFEST, OCI_MANIFEST, describe
from tests.support.between import Request, between
from tests.support.conversation import Answer, Image, edge_over, sha256
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY = "team/app"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
ARM = {"os": "linux", "architecture": "arm64", "variant": "v8"}
TOLD = ("linux/arm64/v8",)
LAYER = b"a layer"


def image_of(config: bytes, media_type: str = OCI_MANIFEST, config_type: str = OCI_CONFIG) -> Image:
    layer_type = "application/vnd.docker.image.rootfs.diff.tar.gzip" if "docker" in media_type else "application/x-tar"
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {"mediaType": config_type, "digest": sha256(config), "size": len(config)},
        "layers": [{"mediaType": layer_type, "digest": sha256(LAYER), "size": len(LAYER)}],
    }
    return Image(json.dumps(document).encode(), media_type, (config, LAYER))


def config(**values: Any) -> bytes:
    return json.dumps(values).encode()


SINGLE = {
    "OCI": image_of(config(**ARM)),
    "docker schema 2": image_of(config(**ARM), DOCKER_MANIFEST, DOCKER_CONFIG),
}
NONE = {
    "an attestation": image_of(config(os="unknown", architecture="unknown")),
    "an artifact": image_of(config(**ARM), config_type="application/vnd.example.thing+json"),
    "half of a platform": image_of(config(os="linux")),
    "no JSON": image_of(b"{"),
    "words": image_of(config(os="li nux", architecture="arm64")),
    "too large": image_of(config(**ARM, padding="x" * 70_000)),
}
READ = frozenset({"an attestation", "half of a platform", "no JSON", "words"})
"""Those of `NONE` whose config is looked at."""


async def told_of(urls: tuple[str, str], pushed: Image, reference: str, *, read: bool) -> tuple[Event, TagRecord]:
    """The event of a push whose manifest arrives after its config was read, if it is ``read``; and its record."""
    was_read = asyncio.Event()

    async def act(asked: Request) -> Answer:
        if asked.is_manifest_put and read:
            await was_read.wait()
        answer = await asked.forward()
        if is_whole_config(asked, pushed):
            was_read.set()
        return answer

    registry, redis = urls
    async with between(registry, act) as standing, edge_over(standing.url, redis) as edge:
        await edge.direct.blobs(REPOSITORY, pushed)
        async with asyncio.timeout(10):
            assert (await edge.client.put(REPOSITORY, reference, pushed)).status == 201
        (event,) = await edge.events(REPOSITORY)
        return event, await edge.parts.register.read(REPOSITORY, reference)


def is_whole_config(asked: Request, pushed: Image) -> bool:
    return asked.method == "GET" and asked.target.endswith(sha256(pushed.blobs[0])) and "Range" not in asked.headers


@pytest.fixture
def urls(registry: RegistryServer, redis_server: RedisServer) -> tuple[str, str]:
    return registry.url, redis_server.url


@pytest.mark.parametrize("reference", ["latest", "1.0", "by digest"])
@pytest.mark.parametrize("name", SINGLE)
async def test_the_platform_of_a_single_image_is_told(urls: tuple[str, str], name: str, reference: str) -> None:
    pushed = SINGLE[name]
    event, held = await told_of(urls, pushed, pushed.digest if reference == "by digest" else reference, read=True)
    assert (event.outcome, event.platforms) == (Outcome.CREATED, TOLD)
    assert held.committed is None or held.committed.platforms == TOLD


@pytest.mark.parametrize("reference", ["latest", "1.0"])
@pytest.mark.parametrize("name", NONE)
async def test_what_is_no_image_has_none(urls: tuple[str, str], name: str, reference: str) -> None:
    event, _ = await told_of(urls, NONE[name], reference, read=name in READ)
    assert (event.outcome, event.platforms) == (Outcome.CREATED, ())


async def test_what_a_tag_holds_is_told_of_what_changes_nothing(urls: tuple[str, str]) -> None:
    await told_of(urls, SINGLE["OCI"], "1.0", read=True)
    async with edge_over(*urls) as another:
        assert (await another.client.put(REPOSITORY, "1.0", SINGLE["OCI"])).status == 201
        told = {event.outcome: event.platforms for event in await another.events(REPOSITORY)}
    assert told == {Outcome.CREATED: TOLD, Outcome.UNCHANGED: TOLD}


async def test_what_was_read_is_told_of_what_is_refused(urls: tuple[str, str]) -> None:
    one, two = SINGLE["OCI"], SINGLE["docker schema 2"]
    async with edge_over(*urls) as edge:
        await edge.direct.blobs(REPOSITORY, one)
        assert (await edge.client.put(REPOSITORY, "1.0", one)).status == 201
        while not edge.parts.platforms.of(REPOSITORY, describe(one.body, one.media_type)):
            await asyncio.sleep(0.005)
        assert (await edge.client.put(REPOSITORY, "1.0", two)).status == 409
        refused = (await edge.events(REPOSITORY))[-1]
    assert (refused.outcome, refused.platforms) == (Outcome.REFUSED, TOLD)


@pytest.mark.parametrize("reference", ["latest", "1.0"])
@pytest.mark.parametrize("answers", ["nothing", "late", "no"])
async def test_no_push_waits_for_it_or_fails_by_it(urls: tuple[str, str], reference: str, answers: str) -> None:
    """Also with the credentials of somebody who may push and not pull."""
    pushed, over, asked_for = SINGLE["OCI"], asyncio.Event(), asyncio.Event()
    registry, redis = urls

    async def act(asked: Request) -> Answer | None:
        if asked.is_manifest_put:
            await asked_for.wait()
        if not is_whole_config(asked, pushed):
            return await asked.forward()
        asked_for.set()
        assert asked.headers["Authorization"].startswith("Basic ")
        if answers == "late":
            await over.wait()
        return Answer(403, CIMultiDict(), b"") if answers == "no" else None

    async with between(registry, act) as standing, edge_over(standing.url, redis) as edge:
        await edge.direct.blobs(REPOSITORY, pushed)
        answer = await edge.client.as_user("bob").put(REPOSITORY, reference, pushed)
        over.set()
        assert answer.status == 201
        (event,) = await edge.events(REPOSITORY)
        assert (event.outcome, event.platforms) == (Outcome.CREATED, ())
