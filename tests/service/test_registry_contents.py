"""The console reads manifests and configs of a real registry, as the proxy's own account, within bounds."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from immuproxy.drift.service import service_caller
from immuproxy.edge.settings import Timeouts
from immuproxy.edge.upstream import opened
from immuproxy.service import registry_contents
from immuproxy.service.registry_contents import RegistryContents
from tests.support.answering import Asked, Said, answering
from tests.support.conversation import Client, Image, image, sha256
from tests.support.servers import RegistryServer

NOBODY: tuple[str | None, str | None] = (None, None)
PATIENT = Timeouts.model_construct(connect=1.0, manifest=30.0)


@asynccontextmanager
async def reader(
    url: str, *, account: tuple[str | None, str | None] = NOBODY, clock: Callable[[], float] | None = None
) -> AsyncIterator[RegistryContents]:
    async with opened(url, timeouts=PATIENT) as upstream:
        caller = service_caller(*account)
        yield RegistryContents(upstream, caller, clock=clock) if clock else RegistryContents(upstream, caller)


async def pushed(registry: RegistryServer, seed: str, user: str = "") -> Image:
    found = image(seed, labels={"a": "b"})
    async with aiohttp.ClientSession() as session:
        client = Client(registry.url, session)
        answer = await (client.as_user(user) if user else client).push("team/app", "1.0", found)
        assert answer.status == 201
    return found


async def test_a_manifest_and_a_config_are_read_as_they_were_pushed(registry: RegistryServer) -> None:
    found = await pushed(registry, "one")
    async with reader(registry.url) as contents:
        manifest = await contents.manifest("team/app", found.digest)
        assert (manifest.body, manifest.media_type, manifest.why_not) == (found.body, found.media_type, "")
        config = await contents.config("team/app", sha256(found.blobs[0]))
        assert json.loads(config.body)["config"]["Labels"] == {"a": "b"}


async def test_what_is_not_there_is_said_so(registry: RegistryServer) -> None:
    await pushed(registry, "one")
    async with reader(registry.url) as contents:
        for read in (contents.manifest, contents.config):
            missing = await read("team/app", sha256(b"nothing"))
            assert (missing.body, missing.why_not) == (b"", "The registry does not have it.")


async def test_a_registry_that_wants_an_account_is_read_with_one(start_registry: Callable[..., RegistryServer]) -> None:
    registry = start_registry(htpasswd={"mira": "secret", "proxy": "secret"})
    found = await pushed(registry, "one", user="mira")
    config = sha256(found.blobs[0])
    async with reader(registry.url) as contents:
        for content in (await contents.manifest("team/app", found.digest), await contents.config("team/app", config)):
            assert not content.body
            assert "own account" in content.why_not
    async with reader(registry.url, account=("proxy", "secret")) as contents:
        assert (await contents.config("team/app", config)).body == found.blobs[0]


async def test_what_was_read_is_kept_for_a_while(registry: RegistryServer) -> None:
    found, now = await pushed(registry, "one"), 0.0
    config = sha256(found.blobs[0])
    async with reader(registry.url, clock=lambda: now) as contents:
        await contents.config("team/app", config)
        await contents.manifest("team/app", found.digest)
        registry.stop()
        assert (await contents.config("team/app", config)).body == found.blobs[0]
        assert (await contents.manifest("team/app", found.digest)).body == found.body
        assert "could not be asked" in (await contents.config("team/other", config)).why_not
        now = registry_contents.KEPT + 1
        assert not (await contents.config("team/app", config)).body


async def test_a_failure_is_kept_for_seconds_only(registry: RegistryServer) -> None:
    found, now = image("later", labels={"a": "b"}), 0.0
    async with reader(registry.url, clock=lambda: now) as contents:
        assert not (await contents.manifest("team/app", found.digest)).body
        await pushed(registry, "later")
        assert not (await contents.manifest("team/app", found.digest)).body
        now = registry_contents.KEPT_FAILURE + 0.1
        assert (await contents.manifest("team/app", found.digest)).body == found.body


async def test_memory_is_bounded(registry: RegistryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [await pushed(registry, str(number)) for number in range(4)]
    monkeypatch.setattr(registry_contents, "MOST_BYTES", 2 * (len(found[0].body) + 600))
    async with reader(registry.url) as contents:
        for each in found:
            await contents.manifest("team/app", each.digest)
        assert len(contents._known) == 2
        assert contents._known.currsize <= registry_contents.MOST_BYTES
        registry.stop()
        assert (await contents.manifest("team/app", found[3].digest)).body
        assert not (await contents.manifest("team/app", found[0].digest)).body


BODY = b'{"schemaVersion": 2}'
OCI = "application/vnd.oci.image.manifest.v1+json"


async def test_bytes_that_are_not_what_their_digest_says_are_not_shown() -> None:
    schema_one = {"Content-Type": "application/vnd.docker.distribution.manifest.v1+json"}

    def lie(asked: Asked) -> Said:
        if "/manifests/" in asked.target:
            return Said(200, BODY, schema_one | {"Docker-Content-Digest": sha256(b"asked for")})
        return Said(200, b"something else")

    with answering(lie) as server:
        async with reader(server.url) as contents:
            for read in (contents.manifest, contents.config):
                content = await read("team/app", sha256(b"asked for"))
                assert not content.body
                assert "does not give out" in content.why_not


async def test_a_slow_registry_costs_seconds_not_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_contents, "PATIENCE", 0.3)
    release = threading.Event()

    def slowly(_: Asked) -> Said:
        release.wait(20)
        return Said(404)

    with answering(slowly) as server:
        async with reader(server.url) as contents:
            many = [contents.manifest("team/app", sha256(b"%d" % number)) for number in range(12)]
            try:
                async with asyncio.timeout(5):
                    found = await asyncio.gather(*many)
            finally:
                release.set()
    assert {content.why_not for content in found} == {"The registry took too long to answer."}


async def test_the_same_question_is_asked_once_and_survives_the_one_who_asked() -> None:
    def answer(_: Asked) -> Said:
        threading.Event().wait(0.2)
        return Said(200, BODY, {"Content-Type": OCI})

    with answering(answer) as server:
        async with reader(server.url) as contents:
            first = asyncio.create_task(contents.manifest("team/app", sha256(BODY)))
            others = [asyncio.create_task(contents.manifest("team/app", sha256(BODY))) for _ in range(5)]
            await asyncio.sleep(0.05)
            first.cancel()
            assert {content.body for content in await asyncio.gather(*others)} == {BODY}
        assert len(server.asked) == 1


async def test_a_digest_of_another_kind_asks_for_no_blob() -> None:
    with answering(lambda _: Said(200, b"x")) as server:
        async with reader(server.url) as contents:
            assert not (await contents.config("team/app", f"sha512:{'a' * 128}")).body
        assert all(asked.method == "HEAD" for asked in server.asked)
