"""Looks at blobs ahead of the push that needs them, and how long they hold (H25, H34)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from immuproxy.edge import record
from immuproxy.edge.push import blob_check
from immuproxy.ledger.model import Action, Outcome
from tests.support.between import Between, Request, between
from tests.support.conversation import Answer, Image, RunningEdge, edge_over, image, sha256
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY = "team/app"
PUSHED = image("one")
LAYER = sha256(PUSHED.blobs[1])


@dataclass(frozen=True)
class Stage:
    """Two proxies before one registry, which one of them asks through `middle`."""

    registry: RegistryServer
    middle: Between
    left: RunningEdge
    right: RunningEdge
    looked: list[str]

    def asked(self) -> int:
        """Looks at blobs that have reached the registry; a config that is read whole, for the audit, is none."""
        return len(self.looked)

    def sent(self) -> bool:
        """Whether the manifest was sent: the registry may refuse it too, but must not be asked."""
        return ("PUT", f"/v2/{REPOSITORY}/manifests/1.0") in self.middle.asked

    async def all_seen(self, count: int) -> None:
        async with asyncio.timeout(5):
            while self.asked() < count or self.left.parts.edge._blob_checks._ahead:
                await asyncio.sleep(0.01)

    def lose(self, digest: str) -> None:
        """Take a blob's bytes off the disk; the registry's descriptor cache does not hear of it."""
        (self.registry.storage / f"docker/registry/v2/blobs/sha256/{digest[7:9]}/{digest[7:]}/data").unlink()


@contextlib.asynccontextmanager
async def staged(registry: RegistryServer, redis: RedisServer, rules: str) -> AsyncIterator[Stage]:
    looked: list[str] = []

    async def act(asked: Request) -> Answer:
        if "/blobs/sha256:" in asked.target and asked.headers.get("Range") == "bytes=0-0":
            looked.append(asked.target)
        return await asked.forward()

    async with (
        between(registry.url, act) as middle,
        edge_over(middle.url, redis.url, rules=rules) as left,
        edge_over(registry.url, redis.url, rules=rules) as right,
    ):
        yield Stage(registry, middle, left, right, looked)


@pytest.fixture
async def stage(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[Stage]:
    async with staged(registry, redis_server, "default: immutable") as made:
        yield made


async def head_all(edge: RunningEdge, pushed: Image, repository: str = REPOSITORY) -> None:
    for blob in pushed.blobs:
        assert (await edge.client.ask("HEAD", f"/v2/{repository}/blobs/{sha256(blob)}")).status == 200


@pytest.mark.parametrize("how", ["uploaded", "found there", "mounted"])
async def test_a_blob_that_has_just_passed_is_not_looked_at_in_the_middle_of_the_push(stage: Stage, how: str) -> None:
    left = stage.left
    if how == "uploaded":
        await left.client.blobs(REPOSITORY, PUSHED)
    else:
        await left.direct.blobs(REPOSITORY if how == "found there" else "other/app", PUSHED)
    if how == "found there":
        await head_all(left, PUSHED)
    if how == "mounted":
        for blob in PUSHED.blobs:
            path = f"/v2/{REPOSITORY}/blobs/uploads/?mount={sha256(blob)}&from=other/app"
            assert (await left.client.ask("POST", path)).status == 201
    await stage.all_seen(2)
    assert stage.asked() == 2
    assert (await left.client.put(REPOSITORY, "1.0", PUSHED)).status == 201
    assert stage.asked() == 2


async def test_what_was_never_seen_is_looked_at(stage: Stage) -> None:
    await stage.right.client.blobs(REPOSITORY, PUSHED)
    assert (await stage.left.client.put(REPOSITORY, "1.0", PUSHED)).status == 201
    assert stage.asked() == 2


async def test_a_look_under_way_is_waited_for_and_not_repeated(stage: Stage) -> None:
    await stage.left.client.blobs(REPOSITORY, PUSHED)
    assert (await stage.left.client.put(REPOSITORY, "1.0", PUSHED)).status == 201
    assert stage.asked() == 2


async def idle(edge: RunningEdge) -> None:
    async with asyncio.timeout(5):
        while edge.parts.edge._blob_checks._ahead:
            await asyncio.sleep(0.01)


async def test_h25_the_registrys_word_alone_is_not_remembered(stage: Stage) -> None:
    edge = stage.right
    await edge.direct.blobs(REPOSITORY, PUSHED)
    for blob in PUSHED.blobs:  # now its descriptor cache has them
        assert (await edge.direct.ask("HEAD", f"/v2/{REPOSITORY}/blobs/{sha256(blob)}")).status == 200
    stage.lose(LAYER)
    await head_all(edge, PUSHED)
    await idle(edge)
    answer = await edge.client.put(REPOSITORY, "1.0", PUSHED)
    assert (answer.status, answer.error["detail"]["digest"]) == (400, LAYER)


@pytest.mark.parametrize("deleter", ["left", "right"])
async def test_h34_a_delete_through_any_proxy_ends_what_was_seen(stage: Stage, deleter: str) -> None:
    await stage.left.client.blobs(REPOSITORY, PUSHED)
    await stage.all_seen(2)
    edge: RunningEdge = getattr(stage, deleter)
    assert (await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/blobs/{LAYER}")).status == 202
    assert (await stage.left.client.put(REPOSITORY, "1.0", PUSHED)).status == 400
    assert not stage.sent()


async def test_h34_what_was_seen_while_a_delete_was_on_its_way_does_not_count(stage: Stage) -> None:
    """The blob is there when it is looked at, and goes before the push claims its tag."""
    await stage.left.direct.blobs(REPOSITORY, PUSHED)
    register = stage.right.parts.register
    draft = record.own(Action.DELETE_BLOB, Outcome.FAILED, REPOSITORY, digest=LAYER)
    await register.begin_delete(REPOSITORY, LAYER, holders=[], deadline_ms=60_000, draft=draft)
    await head_all(stage.left, PUSHED)
    await stage.all_seen(2)
    assert (await stage.right.direct.ask("DELETE", f"/v2/{REPOSITORY}/blobs/{LAYER}")).status == 202
    await register.end_delete(REPOSITORY, LAYER, draft)
    assert (await stage.left.client.put(REPOSITORY, "1.0", PUSHED)).status == 400
    assert not stage.sent()


async def test_what_was_seen_holds_for_a_moment_only(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    edge = stage.right
    monkeypatch.setattr(blob_check, "REMEMBERED", 0.0)
    await edge.client.blobs(REPOSITORY, PUSHED)
    await idle(edge)
    stage.lose(LAYER)
    assert (await edge.client.put(REPOSITORY, "1.0", PUSHED)).status == 400


async def test_what_was_seen_in_one_repository_says_nothing_of_another(stage: Stage) -> None:
    await stage.left.client.blobs("other/app", PUSHED)
    await stage.all_seen(2)
    assert (await stage.left.client.put(REPOSITORY, "1.0", PUSHED)).status == 400
    assert not stage.sent()


async def test_more_than_can_wait_is_looked_at_when_it_is_pushed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_check, "MAX_AHEAD", 0)
    await stage.left.client.blobs(REPOSITORY, PUSHED)
    assert stage.asked() == 0
    assert (await stage.left.client.put(REPOSITORY, "1.0", PUSHED)).status == 201
    assert stage.asked() == 2


async def test_where_no_tag_is_protected_nothing_is_looked_at(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    rules = "{default: mutable, rules: [{name: team, repositories: [team/**], policy: immutable}]}"
    async with staged(registry, redis_server, rules) as stage:
        for repository in ("free/app", REPOSITORY):
            await stage.left.client.blobs(repository, PUSHED)
            assert (await stage.left.client.put(repository, "1.0", PUSHED)).status == 201
            assert stage.asked() == (2 if repository == REPOSITORY else 0)
