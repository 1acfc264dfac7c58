"""A door between the proxy and the registry has words of its own, and none of them counts as the registry's (H83)."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from multidict import CIMultiDict

from immuproxy.ledger.model import Action, Outcome
from tests.support.between import Request, between, pass_on
from tests.support.conversation import Answer, Client, RunningEdge, edge_over, image, sha256
from tests.support.servers import DoorServer, RedisServer, RegistryServer, running_door

RULES = """
rules:
  - {name: robots, tags: ["1.*"], policy: immutable, overwrite: [{users: [robot]}]}
  - {name: loose, tags: ["2.*"], policy: immutable, delete: allow}
"""
LONG_PASSWORD = "x" * 9000
PAGE = Answer(400, CIMultiDict({"Content-Type": "text/html"}), b"<html>400 Bad Request</html>")
HIDDEN = Answer(404, CIMultiDict({"Content-Type": "text/html"}), b"<html>404 Not Found</html>")
LOGIN = Answer(200, CIMultiDict({"Content-Type": "text/html"}), b"<html>log in</html>")
AWAY = Answer(302, CIMultiDict({"Location": "https://login.example/"}), b"")


@pytest.fixture
def door(registry: RegistryServer) -> Iterator[DoorServer]:
    with running_door(registry.url, users={"alice": "secret", "robot": "secret"}) as server:
        yield server


@pytest.fixture
async def edge(door: DoorServer, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    """An edge before an nginx that asks for passwords, before a registry that does not."""
    async with edge_over(door.url, redis_server.url, rules=RULES) as running:
        yield running


async def test_h83_a_doors_400_to_a_wrong_password_lets_nobody_push_and_tells_nothing(edge: RunningEdge) -> None:
    alice, stranger = edge.client.as_user("alice"), edge.client.as_user("robot", LONG_PASSWORD)
    ours = image("ours")
    assert (await alice.push("team/app", "1.0", ours)).status == 201
    assert (await edge.direct.as_user("robot", LONG_PASSWORD).put("team/app", "1.0", ours)).status == 400
    before = await edge.events("team/app")
    for pushed in (ours, image("other")):
        answer = await stranger.put("team/app", "1.0", pushed)
        assert answer.status == 503
        assert ours.digest.encode() not in answer.body
        assert b"alice" not in answer.body
    assert await edge.events("team/app") == before


async def test_h83_a_doors_400_lets_nobody_delete_and_tells_nothing(edge: RunningEdge) -> None:
    alice, stranger = edge.client.as_user("alice"), edge.client.as_user("robot", LONG_PASSWORD)
    ours = image("ours")
    await alice.push("team/app", "1.0", ours)
    before = await edge.events("team/app")
    for path in ("manifests/1.0", f"manifests/{ours.digest}", f"blobs/{sha256(ours.blobs[0])}"):
        answer = await stranger.ask("DELETE", f"/v2/team/app/{path}")
        assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE"), path
        assert b"robots" not in answer.body
    assert await edge.events("team/app") == before


async def test_a_door_that_asks_for_passwords_confirms_who_comes_through_it(edge: RunningEdge) -> None:
    alice = edge.client.as_user("alice")
    await alice.push("team/app", "1.0", image("ours"))
    await alice.push("team/app", "2.0", image("loose"))
    assert (await alice.ask("DELETE", "/v2/team/app/manifests/1.0")).status == 405
    assert (await alice.ask("DELETE", f"/v2/team/app/blobs/{sha256(image('ours').blobs[0])}")).status == 405
    assert (await alice.ask("DELETE", f"/v2/team/app/manifests/{image('loose').digest}")).status == 202
    events = await edge.events("team/app")
    assert [event.outcome for event in events[2:]] == [Outcome.REFUSED] * 2 + [Outcome.DELETED] * 2  # tag and manifest
    assert {(event.actor, event.actor_confirmed) for event in events} == {("alice", True)}


async def test_where_anybody_may_delete_a_name_proves_nothing(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    async with edge_over(registry.url, redis_server.url, rules=RULES) as edge:
        robot = edge.client.as_user("robot", "anything")
        await robot.push("team/app", "1.0", image("ours"))
        assert (await robot.ask("DELETE", "/v2/team/app/manifests/1.0")).status == 405
        assert {event.actor_confirmed for event in await edge.events("team/app")} == {False}


Scripted = Callable[[Answer, Callable[[Request], bool]], contextlib.AbstractAsyncContextManager[RunningEdge]]


@pytest.fixture
def scripted(registry: RegistryServer, redis_server: RedisServer) -> Scripted:
    """An edge before a door that gives an answer of its own to whoever `applies`, and lets the others through."""

    @contextlib.asynccontextmanager
    async def opened(said: Answer, applies: Callable[[Request], bool]) -> AsyncIterator[RunningEdge]:
        async def act(request: Request) -> Answer | None:
            return said if applies(request) else await pass_on(request)

        async with between(registry.url, act) as door, edge_over(door.url, redis_server.url, rules=RULES) as edge:
            yield edge

    return opened


def from_stranger(request: Request) -> bool:
    return "Authorization" not in request.headers


async def push_and_lose(edge: RunningEdge, registry_url: str) -> bytes:
    """A protected tag whose manifest only the ledger still has."""
    ours = image("ours")
    await edge.client.as_user("alice").push("team/app", "1.0", ours)
    direct = Client(registry_url, edge.client.session)
    assert (await direct.ask("DELETE", f"/v2/team/app/manifests/{ours.digest}")).status == 202
    return ours.body


@pytest.mark.parametrize("said", [PAGE, HIDDEN, LOGIN, AWAY])
async def test_h83_whatever_a_door_answers_a_stranger_learns_nothing_and_leaves_no_event(
    scripted: Scripted, registry: RegistryServer, said: Answer
) -> None:
    async with scripted(said, from_stranger) as edge:
        await push_and_lose(edge, registry.url)
        before = await edge.events("team/app")
        config = sha256(image("ours").blobs[0])
        answers = [
            await edge.client.put("team/app", "1.0", image("other")),
            await edge.client.put("team/app", "1.0", image("ours")),
            await edge.client.ask("DELETE", "/v2/team/app/manifests/1.0"),
            await edge.client.ask("DELETE", f"/v2/team/app/blobs/{config}"),
            await edge.client.pull("team/app", "1.0"),
            await edge.client.pull("team/app", image("ours").digest),
        ]
        for answer in answers:
            assert config.encode() not in answer.body
            assert b"alice" not in answer.body
        assert {answer.status for answer in answers[:4]} == {503}
        assert [told for told in await edge.events("team/app") if told.action != "drift"] == before
        assert (await edge.client.as_user("alice").pull("team/app", "1.0")).body == image("ours").body


async def test_h83_a_doors_404_makes_no_name_count(scripted: Scripted) -> None:
    """An open registry, and a door that knows no such page for a moment: nobody was asked who they are."""
    async with scripted(HIDDEN, from_stranger) as edge:
        robot = edge.client.as_user("robot")
        assert (await robot.push("team/app", "1.0", image("one"))).status == 201
        assert (await robot.push("team/app", "1.0", image("two"))).status == 409


async def test_h83_a_list_that_a_door_hides_is_no_empty_one(scripted: Scripted) -> None:
    """Else the tags that predate the proxy are not adopted, and what they need may be deleted (H77)."""
    async with scripted(HIDDEN, lambda request: "/tags/list" in request.target) as edge:
        old = image("old")
        await edge.direct.push("team/app", "1.0", old)
        for path in (f"manifests/{old.digest}", f"blobs/{sha256(old.blobs[0])}"):
            assert (await edge.client.ask("DELETE", f"/v2/team/app/{path}")).status == 405
        assert (await edge.direct.pull("team/app", "1.0")).status == 200


async def test_h83_a_tag_that_a_door_hides_is_not_free(scripted: Scripted, registry: RegistryServer) -> None:
    def hides(request: Request) -> bool:
        return request.method == "GET" and request.target.endswith("/manifests/1.0")

    async with scripted(HIDDEN, hides) as edge:
        direct, old = Client(registry.url, edge.client.session), image("old")
        await direct.push("team/app", "1.0", old)
        assert (await edge.client.push("team/app", "1.0", image("new"))).status == 503
        assert (await direct.pull("team/app", "1.0")).digest == old.digest


@pytest.mark.parametrize("name", ["the push", "the question"])
async def test_h83_a_blob_that_a_door_hides_is_not_missing(
    scripted: Scripted, registry: RegistryServer, name: str
) -> None:
    """Nobody is told to push again what is there, and no name of a blob counts as unknown."""
    async with scripted(
        HIDDEN, lambda request: request.method in {"GET", "HEAD"} and "/blobs/" in request.target
    ) as edge:
        await Client(registry.url, edge.client.session).blobs("team/app", image("ours"))
        if name == "the push":
            answer = await edge.client.put("team/app", "1.0", image("ours"))
        else:
            digest = f"sha512:{hashlib.sha512(image('ours').blobs[0]).hexdigest()}"
            answer = await edge.client.ask("DELETE", f"/v2/team/app/blobs/{digest}")
        assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")


OWN_200 = Answer(200, CIMultiDict({"Docker-Distribution-Api-Version": "registry/2.0"}), b"")
PAGE_202 = Answer(202, CIMultiDict({"Content-Type": "text/html"}), b"<html>we will see</html>")
PARTIAL = Answer(206, CIMultiDict({"Docker-Distribution-Api-Version": "registry/2.0"}), b"")
GAVE_UP = Answer(408, CIMultiDict({"Content-Type": "text/html"}), b"<html>too slow</html>")


@pytest.mark.parametrize(
    ("said", "status"), [(LOGIN, 503), (PAGE_202, 503), (PARTIAL, 503), (GAVE_UP, 503), (OWN_200, 200)]
)
async def test_h83_only_the_registrys_own_yes_makes_a_delete_of_a_request(
    scripted: Scripted, registry: RegistryServer, said: Answer, status: int
) -> None:
    """Whatever else is said, the outcome is unknown, until the sweep has looked."""
    loose = image("loose")

    def is_delete(request: Request) -> bool:
        return request.method == "DELETE" and loose.digest in request.target

    async with scripted(said, is_delete) as edge:
        await edge.client.push("team/app", "2.0", loose)
        answer = await edge.client.ask("DELETE", f"/v2/team/app/manifests/{loose.digest}")
        assert answer.status == status
        told = [event.outcome for event in await edge.events("team/app") if event.action is Action.DELETE_MANIFEST]
        assert told == ([Outcome.DELETED] if status == 200 else [])


async def test_h83_what_a_door_does_not_find_was_not_missing(scripted: Scripted) -> None:
    loose = image("loose")

    def is_delete(request: Request) -> bool:
        return request.method == "DELETE" and loose.digest in request.target

    async with scripted(HIDDEN, is_delete) as edge:
        await edge.client.push("team/app", "2.0", loose)
        assert (await edge.client.ask("DELETE", f"/v2/team/app/manifests/{loose.digest}")).status == 404
        assert (await edge.events("team/app"))[-1].outcome is Outcome.FAILED
