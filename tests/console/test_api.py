from __future__ import annotations

import asyncio
from typing import Any

import pytest
from yarl import URL

from immuproxy.audit.record import Projector
from immuproxy.console.sources import Sources
from immuproxy.ledger.content import Content
from immuproxy.ledger.model import Outcome, StoredManifest
from immuproxy.store.redis import Store
from immuproxy.store.turns import Turns
from tests.console.conftest import Console, Seed
from tests.console.events import digest, push
from tests.support.servers import RedisServer


async def ask(console: Console, path: str, status: int = 200, **query: Any) -> Any:
    async with console.get(f"/api/v1{path}", params=query) as response:
        body = await response.json()
        assert response.status == status, body
        return body


def tags(answer: Any) -> list[str]:
    return [event["tag"] for event in answer["events"]]


@pytest.fixture
async def some(seed: Seed) -> None:
    await seed(
        [
            push(tag="1.0", actor="ci"),
            push(tag="1.1", actor="mira", repository="team/api"),
            push(Outcome.REFUSED, tag="1.2", actor="ci", digest=digest("two")),
        ]
    )


@pytest.mark.usefixtures("some")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["1.2", "1.1", "1.0"]),
        ({"repository": "team/api"}, ["1.1"]),
        ({"repository": "team/*"}, ["1.2", "1.1", "1.0"]),
        ({"tag": "1.0"}, ["1.0"]),
        ({"actor": "ci"}, ["1.2", "1.0"]),
        ({"outcome": "refused"}, ["1.2"]),
        ({"action": "delete-tag"}, []),
        ({"since": "1h"}, ["1.2", "1.1", "1.0"]),
        ({"until": "2020-01-01"}, []),
        ({"q": "actor:ci", "outcome": "created"}, ["1.0"]),
        ({"limit": "2"}, ["1.2", "1.1"]),
    ],
)
async def test_events_by_each_filter(console: Console, query: dict[str, Any], found: list[str]) -> None:
    assert tags(await ask(console, "/events", **query)) == found


async def test_a_cursor_stays_good_while_events_arrive(console: Console, seed: Seed) -> None:
    await seed([push(tag=f"1.{number}") for number in range(6)])
    first = await ask(console, "/events", limit=3)
    await seed([push(tag="new", id="x1"), push(tag="newer", id="x2")])
    second = await ask(console, "/events", limit=3, cursor=first["next_cursor"])
    assert tags(first) + tags(second) == ["1.5", "1.4", "1.3", "1.2", "1.1", "1.0"]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    ("path", "query", "parameter"),
    [
        ("/events", {"limit": "0"}, "limit"),
        ("/events", {"limit": "1001"}, "limit"),
        ("/events", {"limit": "ten"}, "limit"),
        ("/events", {"limit": "\N{ARABIC-INDIC DIGIT ONE}"}, "limit"),
        ("/events", {"cursor": "nonsense"}, "cursor"),
        ("/events", {"outcome": "refusd"}, "outcome"),
        ("/events", {"since": "yesterday"}, "since"),
        ("/events", {"q": "a:b"}, "q"),
        ("/events", {"actr": "ci"}, "actr"),
        ("/overview", {"range": "5y"}, "range"),
        ("/overview", {"range": "7d", "since": "1d"}, "range"),
        ("/overview", {"since": "yesterday"}, "since"),
        ("/overview", {"since": "1d", "until": "x"}, "until"),
        ("/overview", {"until": "1d"}, "since"),
        ("/overview", {"since": "1d", "until": "2d"}, "since"),
        ("/overview", {"since": "2100-01-01"}, "since"),
        ("/overview", {"since": "367d"}, "since"),
        ("/repositories", {"order": "beauty"}, "order"),
        ("/repositories", {"cursor": "nonsense"}, "cursor"),
        ("/repositories/team/app", {"filter": "x" * 301}, "filter"),
        ("/rules/explain", {"tag": "nonsense"}, "tag"),
        ("/complete", {"at": "-1"}, "at"),
    ],
)
async def test_a_wrong_parameter_is_named(console: Console, path: str, query: dict[str, Any], parameter: str) -> None:
    error = (await ask(console, path, 400, **query))["error"]
    assert error["code"] == "bad_parameter"
    assert error["parameter"] == parameter
    assert error["message"]


async def test_a_misspelt_filter_is_an_error_with_a_suggestion(console: Console) -> None:
    error = (await ask(console, "/events", 400, actr="ci"))["error"]
    assert "Did you mean actor?" in error["message"]


@pytest.mark.parametrize("path", ["/nowhere", "/events/nothing", "/repositories/no/such", "/repositories/a/tags/x"])
async def test_what_is_not_there_is_json_too(console: Console, path: str) -> None:
    assert (await ask(console, path, 404))["error"]["code"] in {"not_found", "unknown_repository"}


async def test_another_method_is_refused_with_the_allowed_ones(console: Console) -> None:
    async with console.post("/api/v1/events") as response:
        assert response.status == 405
        assert "GET" in response.headers["Allow"]
        assert (await response.json())["error"]["code"] == "method_not_allowed"


@pytest.mark.usefixtures("some")
async def test_repositories_by_part_of_the_name(console: Console) -> None:
    answer = await ask(console, "/repositories", filter="api")
    assert [found["repository"] for found in answer["repositories"]] == ["team/api"]
    assert (await ask(console, "/repositories", order="refusals"))["repositories"][0]["refusals"] == 1


@pytest.mark.usefixtures("some")
async def test_a_repository_with_its_slash_either_way(console: Console) -> None:
    plain = await ask(console, "/repositories/team/app")
    path = URL("/api/v1/repositories/team%2Fapp", encoded=True)
    async with console.get(path) as response:
        assert await response.json() == plain
    assert {row["tag"]: row["state"] for row in plain["tags"]} == {"1.0": "moves", "1.2": "free"}


@pytest.mark.usefixtures("some")
async def test_tags_by_their_beginning(console: Console) -> None:
    assert [row["tag"] for row in (await ask(console, "/repositories/team/app", filter="1.2"))["tags"]] == ["1.2"]


async def test_pages_of_tags_follow_each_other(console: Console, seed: Seed) -> None:
    await seed([push(tag=f"1.{number}") for number in range(7)])
    first = await ask(console, "/repositories/team/app", limit=4)
    second = await ask(console, "/repositories/team/app", limit=4, cursor=first["next_cursor"])
    found = [row["tag"] for row in first["tags"] + second["tags"]]
    assert sorted(found) == [f"1.{number}" for number in range(7)]
    assert second["next_cursor"] is None


async def test_a_push_in_the_register_is_seen_once_projected(
    console: Console, sources: Sources, store: Store, redis_server: RedisServer
) -> None:
    body = b'{"schemaVersion":2,"layers":[{"digest":"' + digest("l").encode() + b'","size":9,"mediaType":"x"}]}'
    event = push(digest=digest("m"))
    kept = StoredManifest(digest("m"), event.media_type, body)
    content = Content(digest=digest("m"), needs=frozenset({digest("m")}), stored=(kept,), media_type=event.media_type)
    register = sources.register
    await register.claim("team/app", "1.0", content, token="t", lease_ms=1000)
    await register.arm("team/app", "1.0", content, token="t", lease_ms=1000, draft=event, closing=None)
    await register.commit("team/app", "1.0", content, token="t", event=event, first=True)
    await Projector(store).drain("team/app")
    tag = await ask(console, "/repositories/team/app/tags/1.0")
    assert (tag["state"], tag["digest"], tag["generation"]) == ("held", digest("m"), 1)
    manifest = await ask(console, f"/repositories/team/app/manifests/{digest('m')}")
    assert manifest["stored"]
    assert [layer["size"] for layer in manifest["layers"]] == [9]


async def test_the_event_by_its_id(console: Console, seed: Seed) -> None:
    event = push(reason="because", platforms=("linux/amd64",))
    await seed([event])
    assert (await ask(console, f"/events/{event.id}"))["event"] == event.to_dict()


@pytest.mark.usefixtures("some")
@pytest.mark.parametrize(
    ("text", "suggested"),
    [("acto", "actor:"), ("actor:m", "actor:mira"), ("outcome:ref", "outcome:refused"), ("zzz", "")],
)
async def test_completion(console: Console, text: str, suggested: str) -> None:
    found = [each["text"] for each in (await ask(console, "/complete", q=text))["suggestions"]]
    assert (suggested in found) if suggested else not found


async def test_the_explanation_of_a_tag(console: Console) -> None:
    found = (await ask(console, "/rules/explain", tag="team/app:1.0", user="release-bot"))["explanation"]
    assert (found["rule"], found["policy"], found["line"]) == ("releases", "immutable", 6)


async def test_a_redis_that_could_not_be_asked_is_not_said_to_be_away(
    console: Console, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_turns", Turns(at_once=1, longest=0.01))
    async with store._turns.turn():
        assert (await ask(console, "/repositories/team/app", 503))["error"]["code"] == "too_busy"


async def test_without_redis_the_api_says_so(console: Console, redis_server: RedisServer) -> None:
    assert (await ask(console, "/events"))["index"] == {
        "complete": True,
        "since": None,
        "until": None,
        "bounded": False,
        "failure": "",
    }
    redis_server.stop()
    assert (await ask(console, "/repositories/team/app", 503))["error"]["code"] == "ledger_unavailable"
    async with asyncio.timeout(5):
        while not (found := await ask(console, "/events"))["index"]["failure"]:
            await asyncio.sleep(0.01)
    assert found["events"] == []
