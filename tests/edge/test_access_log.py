"""The access log: one line a request, that leads to the client, the rule and the event."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from immuproxy.edge.handler import ClientAddressing
from immuproxy.service.assembly import Choices
from tests.support.conversation import RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer
from tests.support.wire import Exchange, ask, request, scripted

LOCAL = ipaddress.ip_network("127.0.0.0/8")


@pytest.fixture
async def edge(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    choices = Choices(manifest_timeout=5.0, door=lambda: ClientAddressing(trusted=(LOCAL,)))
    async with edge_over(registry.url, redis_server.url, choices=choices) as running:
        running.client.headers.update(
            {"X-Forwarded-For": "203.0.113.9", "Authorization": aiohttp.encode_basic_auth("anna", "secret")}
        )
        yield running


async def lines(edge: RunningEdge, count: int, logs: list[Any]) -> list[dict[str, Any]]:
    """The lines so far; the last may come a moment after its answer."""
    await ask(edge.port, request("GET", "/v2/", [("Connection", "close")]))
    return [entry for entry in logs if entry["event"] == "request"][:count]


async def test_a_push_names_client_user_rule_and_event(edge: RunningEdge) -> None:
    one, two = image("one"), image("two")
    await edge.direct.blobs("team/app", one)
    await edge.direct.blobs("team/app", two)
    with capture_logs() as logs:
        assert (await edge.client.put("team/app", "1.0", one)).status == 201
        assert (await edge.client.put("team/app", "1.0", two)).status == 409
        assert (await edge.client.put("team/app", "latest", two)).status == 201
        told = await lines(edge, 3, logs)
    events = await edge.events("team/app")
    assert [line["event_id"] for line in told] == [event.id for event in events]
    assert [line["request_id"] for line in told] == [event.request_id for event in events]
    assert [line["rule"] for line in told] == ["default", "default", "moving-tags"]
    assert {(line["client"], line["peer"], line["user"]) for line in told} == {("203.0.113.9", "127.0.0.1", "anna")}
    assert [line["received_bytes"] for line in told] == [len(one.body), len(two.body), len(two.body)]
    assert all("secret" not in str(line) for line in told)


async def test_a_push_to_several_tags_names_all_its_events(edge: RunningEdge) -> None:
    one = image("one")
    await edge.direct.blobs("team/app", one)
    with capture_logs() as logs:
        target = f"/v2/team/app/manifests/{one.digest}?tag=1.0&tag=1.1"
        answer = await edge.client.ask("PUT", target, one.body, Content_Type=one.media_type)
        assert answer.status == 201
        (line,) = await lines(edge, 1, logs)
    assert set(line["event_id"].split(",")) == {event.id for event in await edge.events("team/app")}
    assert line["target"].endswith(one.digest)


async def test_a_pull_names_the_rule_and_no_event(edge: RunningEdge) -> None:
    await edge.client.push("team/app", "1.0", image("one"))
    with capture_logs() as logs:
        answer = await edge.client.pull("team/app", "1.0")
        await edge.client.pull("team/app", "latest")
        told = await lines(edge, 2, logs)
    assert [(line["rule"], line["event_id"]) for line in told] == [("default", ""), ("moving-tags", "")]
    assert len(answer.body) < told[0]["sent_bytes"] < len(answer.body) + 1000
    assert told[0]["client"] == "203.0.113.9"


async def test_who_cannot_be_made_out_is_told_by_the_other_end(edge: RunningEdge) -> None:
    with capture_logs() as logs:
        assert (await ask(edge.port, request("GET", "/nothing"))).status == 404
        (line,) = await lines(edge, 1, logs)
    assert (line["client"], line["user"], line["rule"], line["request_id"]) == ("127.0.0.1", "", "", "")


async def test_nothing_is_kept_of_a_request_that_failed(edge: RunningEdge, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise LookupError("a fault of our own")

    monkeypatch.setattr(edge.parts.edge, "_travel", fail)
    assert (await ask(edge.port, request("GET", "/v2/"))).status == 500
    assert not edge.parts.edge._access_log._notes


async def test_h84_no_byte_of_a_broken_answer_of_the_upstream_is_logged(redis_server: RedisServer) -> None:
    """It may hold a cookie or a signed address."""

    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nSet-Cookie : s=sesame\r\n\r\n")

    async with scripted(script) as upstream, edge_over(upstream.url, redis_server.url) as edge:
        with capture_logs() as logs:
            answer = await ask(edge.port, request("GET", f"/v2/team/app/blobs/sha256:{'0a' * 32}"))
    assert answer.status == 503
    assert b"sesame" not in answer.body
    assert any(entry["event"] == "upstream unavailable" for entry in logs)
    assert "sesame" not in str(logs)


async def test_the_client_is_told_the_id_of_its_request_where_something_is_changed_or_refused(
    edge: RunningEdge,
) -> None:
    one = image("one")
    await edge.client.blobs("team/app", one)
    answers = [
        await edge.client.put("team/app", "1.0", one),
        await edge.client.put("team/app", "1.0", image("two")),
        await edge.client.put("team/app", "latest", one),
        await edge.client.ask("DELETE", "/v2/team/app/manifests/1.0"),
    ]
    assert [answer.status for answer in answers] == [201, 409, 201, 405]
    told = [answer.headers.getall("X-Request-Id") for answer in answers]
    assert told == [[event.request_id] for event in await edge.events("team/app")]
