"""Passing through, where it goes wrong: whose fault it was, and in which words that is told."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from structlog.testing import capture_logs

from immuproxy.edge import faults
from tests.support.conversation import edge_over
from tests.support.servers import RedisServer, RegistryServer, free_port
from tests.support.wire import Exchange, ask, request, scripted, wire

UPLOAD = "/v2/team/app/blobs/uploads/one"
BLOB = f"/v2/team/app/blobs/sha256:{'0a' * 32}"
SECRET = "Basic dG9wOnNlY3JldA=="


@pytest.mark.parametrize(
    ("spelt", "rebuilt"),
    [
        (BLOB.replace("blobs", "%62lobs").replace(":", "%3A"), BLOB),
        ("/%76%32%2Fteam%2fapp/tags/list?n=%31&last=a%2Fb", "/v2/team/app/tags/list?n=%31&last=a%2Fb"),
        ("/v2", "/v2/"),
        ("/v2/team/app/manifests/lates%74?ns=x", "/v2/team/app/manifests/latest"),
    ],
)
async def test_h1_the_clients_spelling_of_a_path_does_not_travel_on(
    spelt: str, rebuilt: str, shared_redis: RedisServer
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(200)

    async with scripted(script) as upstream, edge_over(upstream.url, shared_redis.url) as edge:
        assert (await ask(edge.port, request("GET", spelt))).status == 200
        assert [seen.target for seen in upstream.requests] == [rebuilt]


async def test_a_body_that_breaks_is_the_clients_fault(shared_redis: RedisServer) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(202)

    async with scripted(script) as upstream, edge_over(upstream.url, shared_redis.url) as edge:
        async with wire(edge.port) as line:
            await line.send(request("PATCH", UPLOAD, [("Transfer-Encoding", "chunked")]) + b"4\r\nbody\r\n")
            while not upstream.requests:
                await asyncio.sleep(0.005)
            await line.send(b"zz\r\n")
            answer = await line.answer()
        assert (answer.status, answer.error["message"]) == (400, "the request's body is broken")
        assert not any(seen.body_is_whole for seen in upstream.requests)


@pytest.mark.parametrize(("method", "target"), [("GET", BLOB), ("HEAD", BLOB), ("POST", "/v2/a/blobs/uploads/")])
async def test_an_upstream_that_is_away_is_unavailable_in_plain_words(
    method: str, target: str, shared_redis: RedisServer
) -> None:
    port = free_port()
    async with edge_over(f"http://127.0.0.1:{port}", shared_redis.url) as edge:
        answer = await ask(edge.port, request(method, target))
        assert (answer.status, answer.header("Retry-After")) == (503, "5")
        if method != "HEAD":
            assert answer.error["message"] == "the upstream registry does not answer: no connection to it"


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1",
    ],
)
async def test_no_credential_and_no_address_comes_into_log_or_answer(raw: bytes, shared_redis: RedisServer) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.read_body()
        await exchange.send(raw)
        exchange.hang_up()

    structlog.reset_defaults()
    async with scripted(script) as upstream, edge_over(upstream.url, shared_redis.url) as edge:
        with capture_logs() as logged:
            for method, target in (
                ("GET", BLOB),
                ("PATCH", UPLOAD),
                ("PUT", "/v2/a/manifests/latest"),
                ("GET", "/v2/a/manifests/1"),
            ):
                body = None if method == "GET" else b"{}"
                answer = await ask(edge.port, request(method, target, [("Authorization", SECRET)], body))
                assert str(upstream.port) not in answer.body.decode()
    assert any(entry["event"] == "request" for entry in logged)
    assert SECRET.split()[1] not in str(logged)


async def test_a_registry_that_restarts_is_found_again(registry: RegistryServer, shared_redis: RedisServer) -> None:
    async with edge_over(registry.url, shared_redis.url) as edge:
        assert (await ask(edge.port, request("GET", "/v2/"))).status == 200
        registry.stop()
        assert (await ask(edge.port, request("GET", "/v2/"))).status == 503
        registry.start()
        assert (await ask(edge.port, request("GET", "/v2/"))).status == 200


def test_every_fault_has_words_of_its_own() -> None:
    words = {faults.reason(error) for error in (TimeoutError(), OSError("10.0.0.1"), LookupError("10.0.0.1"))}
    assert words == {"it took too long", "the connection broke", "the exchange failed"}
