"""Registries that are not docker/distribution answer the proxy's questions in words of their own, and their users are
let in all the same (H53, H83).

Each is what its source says, in front of a registry that does the rest.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from multidict import CIMultiDict

from immuproxy.oci.manifests import MEDIA_TYPES
from immuproxy.oci.names import digest_of
from tests.support.between import Request, between, pass_on
from tests.support.conversation import Answer, RunningEdge, edge_over, image, sha256
from tests.support.servers import RedisServer, RegistryServer

RULES = """
rules:
  - {name: releases, tags: ["1.*"], policy: immutable}
  - {name: loose, tags: ["2.*"], policy: immutable, delete: allow}
"""
VERSION = "Docker-Distribution-Api-Version"
CHALLENGE = Answer(401, CIMultiDict({"WWW-Authenticate": 'Basic realm="r"'}), b'{"errors":[{"code":"UNAUTHORIZED"}]}')
Answering = Callable[[Request], Answer | None]
Over = Callable[[Answering], AbstractAsyncContextManager[RunningEdge]]


def says(status: int, code: str, message: str = "") -> Answer:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Answer(status, CIMultiDict({"Content-Type": "application/json"}), body)


def is_question(request: Request, kind: str) -> bool:
    if kind == "push":
        return request.method == "PUT" and request.target.endswith(f"/manifests/{digest_of(b'')}")
    return request.method == "DELETE" and f"/{kind}/sha256:" in request.target


def quay(request: Request) -> Answer | None:
    """endpoints/v2/manifest.py: the type of a manifest is looked at first, then who sends it, then its bytes."""
    if request.method == "PUT" and "/manifests/" in request.target:
        if request.headers.get("Content-Type") not in MEDIA_TYPES:
            return says(415, "MANIFEST_INVALID")
        if "Authorization" not in request.headers:
            return CHALLENGE
        if is_question(request, "push"):
            return says(400, "MANIFEST_INVALID")
    return None


def zot(request: Request) -> Answer | None:
    """pkg/api/routes.go: who sends it, then its type, then its bytes; no version of the API."""
    if "Authorization" not in request.headers:
        return CHALLENGE
    if request.method == "PUT" and "/manifests/" in request.target:
        if request.headers.get("Content-Type") not in MEDIA_TYPES:
            return Answer(415, CIMultiDict(), b"")
        if is_question(request, "push"):
            return says(400, "MANIFEST_INVALID")
    return None


def harbor(request: Request) -> Answer | None:
    """src/server/registry: manifests are judged by its core, blobs by the registry behind it, which names its API."""
    if "Authorization" not in request.headers:
        return CHALLENGE
    if is_question(request, "push"):
        return says(400, "MANIFEST_INVALID")
    if is_question(request, "manifests"):
        digest = request.target.rpartition("/")[2]
        known = digest == image("loose").digest
        missing = says(404, "NOT_FOUND", f"artifact team/app@{digest} not found")
        return Answer(202, CIMultiDict(), b"") if known else missing
    return None


@pytest.fixture
def over(registry: RegistryServer, redis_server: RedisServer) -> Over:
    @asynccontextmanager
    async def opened(answering: Answering) -> AsyncIterator[RunningEdge]:
        async def act(request: Request) -> Answer | None:
            return answering(request) or await pass_on(request)

        async with between(registry.url, act) as door, edge_over(door.url, redis_server.url, rules=RULES) as edge:
            yield edge

    return opened


@pytest.mark.parametrize("answering", [quay, zot, harbor])
async def test_users_of_other_registries_push_and_delete(over: Over, answering: Answering) -> None:
    async with over(answering) as edge:
        alice, loose = edge.client.as_user("alice"), image("loose")
        assert (await alice.push("team/app", "2.0", loose)).status == 201
        unknown = await alice.ask("DELETE", f"/v2/team/app/blobs/{sha256(b'unknown')}")
        assert unknown.status == 404
        assert (await alice.push("team/app", "1.0", image("one"))).status == 201
        assert (await alice.push("team/app", "1.0", image("two"))).status == 409
        assert (await alice.ask("DELETE", f"/v2/team/app/manifests/{loose.digest}")).status == 202
        assert (await alice.ask("DELETE", f"/v2/team/app/manifests/{image('one').digest}")).status == 405


@pytest.mark.parametrize("answering", [quay, zot, harbor])
async def test_strangers_at_other_registries_are_told_nothing(over: Over, answering: Answering) -> None:
    async with over(answering) as edge:
        await edge.client.as_user("alice").push("team/app", "1.0", image("one"))
        before = await edge.events("team/app")
        assert (await edge.client.put("team/app", "1.0", image("two"))).status == 401
        assert {(event.actor, event.actor_confirmed) for event in before} == {("alice", True)}
        assert await edge.events("team/app") == before


async def test_h83_a_not_found_that_does_not_name_what_was_asked_for_lets_nobody_in(over: Over) -> None:
    """A door with an API of its own hides what it has in this way."""

    def door(request: Request) -> Answer | None:
        return says(404, "NOT_FOUND", "no such page") if request.method == "DELETE" else None

    async with over(door) as edge:
        await edge.client.push("team/app", "1.0", image("one"))
        answer = await edge.client.ask("DELETE", "/v2/team/app/manifests/1.0")
        assert (answer.status, answer.error["message"]) == (404, "no such page")
        assert len(await edge.events("team/app")) == 1
