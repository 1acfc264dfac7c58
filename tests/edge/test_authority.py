"""Nothing is said, and nothing is kept, for somebody whom the upstream would turn away (H53-H56)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from immuproxy.ledger.model import ActorSource, Outcome
from immuproxy.service.assembly import Choices
from tests.support.between import Request, between
from tests.support.conversation import Answer, Client, RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer

USERS = """
rules:
  - {name: robots, policy: immutable, overwrite: [{users: ['rob*']}]}
"""


@pytest.fixture
async def edge(start_registry: Callable[..., RegistryServer], redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    registry = start_registry(htpasswd={"alice": "secret", "robot": "secret"})
    async with edge_over(registry.url, redis_server.url, rules=USERS) as running:
        yield running


async def test_h53_an_unauthorised_push_gets_the_upstreams_401_and_leaves_no_key(edge: RunningEdge) -> None:
    for client in (edge.client, edge.client.as_user("alice", "wrong")):
        answer = await client.put("team/app", "1.0", image("one"))
        direct = await edge.direct.put("team/app", "1.0", image("one"))
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == direct.headers["WWW-Authenticate"]
    assert await edge.store.client.dbsize() == 0


async def test_h55_a_committed_tag_is_not_told_to_strangers(edge: RunningEdge) -> None:
    alice = edge.client.as_user("alice")
    await alice.push("team/app", "1.0", image("one"))
    for pushed in (image("one"), image("two")):
        assert (await edge.client.put("team/app", "1.0", pushed)).status == 401
    assert (await edge.client.pull("team/app", "1.0")).status == 401
    assert (await edge.client.ask("DELETE", "/v2/team/app/manifests/1.0")).status == 401


async def test_the_actor_is_confirmed_by_the_upstream(edge: RunningEdge) -> None:
    await edge.client.as_user("alice").push("team/app", "1.0", image("one"))
    (event,) = await edge.events("team/app")
    assert (event.actor, event.actor_source, event.actor_confirmed) == ("alice", ActorSource.BASIC, True)


async def test_only_a_confirmed_user_meets_a_condition_on_users(edge: RunningEdge) -> None:
    await edge.client.as_user("alice").push("team/app", "1.0", image("one"))
    assert (await edge.client.as_user("alice").push("team/app", "1.0", image("two"))).status == 409
    assert (await edge.client.as_user("robot", "wrong").put("team/app", "1.0", image("two"))).status == 401
    assert (await edge.client.as_user("robot").push("team/app", "1.0", image("two"))).status == 201
    assert (await edge.events("team/app"))[-1].outcome is Outcome.OVERWRITTEN


@pytest.mark.parametrize("always", [False, True])
async def test_where_nobody_is_asked_for_credentials_a_name_proves_nothing(
    registry: RegistryServer, redis_server: RedisServer, *, always: bool
) -> None:
    """Also where the registry is asked about each push: it lets everybody in, whatever he calls himself."""
    choices = Choices(manifest_timeout=5.0, authorize_always=always)
    async with edge_over(registry.url, redis_server.url, rules=USERS, choices=choices) as edge:
        robot = edge.client.as_user("robot", "anything")
        await robot.push("team/app", "1.0", image("one"))
        answer = await robot.push("team/app", "1.0", image("two"))
        assert answer.status == 409
        events = await edge.events("team/app")
        assert {(event.actor, event.actor_confirmed) for event in events} == {("robot", False)}


async def test_h55_the_ledgers_own_copy_is_not_given_to_whom_the_upstream_hides_the_repository_from(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    """An upstream that answers 404 instead of 401 to strangers."""
    async with hiding(registry.url) as url, edge_over(url, redis_server.url, rules=USERS) as edge:
        alice, pushed = edge.client.as_user("alice"), image("one")
        await alice.push("team/app", "1.0", pushed)
        await edge.direct.as_user("alice").ask("DELETE", f"/v2/team/app/manifests/{pushed.digest}")
        assert (await alice.pull("team/app", "1.0")).body == pushed.body
        assert (await edge.client.pull("team/app", "1.0")).status == 404


async def test_h53_a_registry_may_ask_for_credentials_in_some_repositories_only(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    async with (
        hiding(registry.url, status=401, below="/v2/team/") as url,
        edge_over(url, redis_server.url, rules=USERS) as edge,
    ):
        robot, ours = edge.client.as_user("robot"), image("one")
        await robot.push("team/app", "1.0", ours)
        for pushed in (ours, image("two")):
            assert (await edge.client.put("team/app", "1.0", pushed)).status == 401
        await edge.client.put("team/app", "2.0", ours)
        assert (await edge.parts.register.read("team/app", "2.0")).claim is None
        assert (await robot.push("team/app", "1.0", image("two"))).status == 201
        await robot.push("open/app", "1.0", ours)
        assert (await robot.push("open/app", "1.0", image("two"))).status == 409
        assert {event.actor_confirmed for event in await edge.events("team/app")} == {True}
        assert {event.actor_confirmed for event in await edge.events("open/app")} == {False}


async def test_an_answer_that_says_nothing_about_credentials_makes_no_name_count(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    """An open registry whose load balancer turns strangers away for a moment."""
    async with (
        hiding(registry.url, status=429) as url,
        edge_over(url, redis_server.url, rules=USERS) as edge,
    ):
        robot = edge.client.as_user("robot")
        await robot.push("team/app", "1.0", image("one"))
        assert (await robot.push("team/app", "1.0", image("two"))).status == 409


async def test_a_question_that_is_lost_makes_nobody_a_stranger(
    start_registry: Callable[..., RegistryServer], redis_server: RedisServer
) -> None:
    """Whether strangers are let in stays unknown then: no name is refused, or told as unconfirmed, because of that."""
    registry = start_registry(htpasswd={"robot": "secret"})
    asked: list[str] = []

    async def lose_the_first_of_each(request: Request) -> Answer | None:
        if "Authorization" in request.headers:
            return await request.forward()
        asked.append(request.method)
        return None if asked.count(request.method) == 1 else await request.forward()

    async with (
        between(registry.url, lose_the_first_of_each) as relay,
        edge_over(relay.url, redis_server.url, rules=USERS) as edge,
    ):
        await Client(registry.url, edge.client.session).as_user("robot").push("team/app", "1.0", image("one"))
        robot = edge.client.as_user("robot")
        await Client(registry.url, edge.client.session).as_user("robot").blobs("team/app", image("two"))
        assert (await robot.put("team/app", "1.0", image("two"))).status == 503
        assert (await robot.put("team/app", "1.0", image("two"))).status == 201
        path = f"/v2/team/app/manifests/{image('two').digest}"
        assert [(await robot.ask("DELETE", path)).status for _ in range(2)] == [503, 405]
        told = [event for event in await edge.events("team/app") if event.actor]
        assert [(event.outcome, event.actor_confirmed) for event in told] == [
            (Outcome.OVERWRITTEN, True),
            (Outcome.REFUSED, True),
        ]


@contextlib.asynccontextmanager
async def hiding(registry_url: str, *, status: int = 404, below: str = "/") -> AsyncIterator[str]:
    """The registry behind a door that shows strangers nothing of what is `below` a path."""
    async with aiohttp.ClientSession() as session:

        async def handle(request: web.Request) -> web.Response:
            if "Authorization" not in request.headers and request.path.startswith(below):
                return web.json_response({"errors": [{"code": "NAME_UNKNOWN"}]}, status=status)
            sent = {name: value for name, value in request.headers.items() if name not in {"Host", "Authorization"}}
            async with session.request(
                request.method, registry_url + request.path_qs, headers=sent, data=await request.read()
            ) as answer:
                kept = {name: value for name, value in answer.headers.items() if name not in {"Content-Length", "Date"}}
                return web.Response(status=answer.status, headers=kept, body=await answer.read())

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        async with TestServer(app) as server:
            yield str(server.make_url("")).rstrip("/")
