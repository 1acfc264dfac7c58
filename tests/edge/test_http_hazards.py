"""Hazards of HTTP itself, H38 to H52, over a whole edge: a raw client in front, a scripted or a real registry behind.

Every broken request must be answered by an error of the specification, reach no upstream and leave no key.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from immuproxy.edge import bodies, relay
from immuproxy.oci.manifests import OCI_MANIFEST
from tests.support.conversation import RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer
from tests.support.wire import UNKNOWN, Exchange, Script, ScriptedUpstream, ask, chunked, request, scripted, wire

UPLOAD = "/v2/team/app/blobs/uploads/one"
BLOB = f"/v2/team/app/blobs/sha256:{'0a' * 32}"
DIGEST = f"sha256:{'0b' * 32}"
CHUNKED = ("Transfer-Encoding", "chunked")
EXPECT = ("Expect", "100-continue")
MUTABLE = "/v2/team/app/manifests/latest"
TYPED = ("Content-Type", OCI_MANIFEST)


@contextlib.asynccontextmanager
async def edge_on(script: Script, redis: RedisServer) -> AsyncIterator[tuple[RunningEdge, ScriptedUpstream]]:
    async with scripted(script) as upstream, edge_over(upstream.url, redis.url) as edge:
        yield edge, upstream


async def fine(exchange: Exchange) -> None:
    """200 with a body for reads, 404 for manifests that nobody pushed, 202 for the rest."""
    if "/manifests/" in exchange.target and exchange.method != "PUT":
        await exchange.answer(404, UNKNOWN)
    else:
        await exchange.answer(200 if exchange.method == "GET" else 202, b"hello")


async def keys(edge: RunningEdge) -> set[bytes | str]:
    return set(await edge.store.client.keys("*"))


# --- H38: compression


async def test_h38_a_compressed_upload_passes_as_it_is(shared_redis: RedisServer) -> None:
    """Inflated bytes behind the compressed length were a second request to the upstream."""
    inner = request("PUT", "/v2/team/app/manifests/1.0", [TYPED], b"{}")
    body = gzip.compress(inner * 50)
    async with edge_on(fine, shared_redis) as (edge, upstream):
        answer = await ask(edge.port, request("PATCH", UPLOAD, [("Content-Encoding", "gzip")], body))
        assert answer.status == 202
        (seen,) = upstream.requests
        assert seen.body == body
        assert seen.header("Content-Encoding") == "gzip"
        assert seen.header("Content-Length") == str(len(body))


async def test_h38_a_compressed_answer_passes_as_it_is(shared_redis: RedisServer) -> None:
    body = gzip.compress(b"hello" * 1000)

    async def script(exchange: Exchange) -> None:
        await exchange.answer(200, body, [("Content-Encoding", "gzip")])

    async with edge_on(script, shared_redis) as (edge, _):
        answer = await ask(edge.port, request("GET", BLOB, [("Accept-Encoding", "gzip")]))
        assert (answer.body, answer.header("Content-Encoding")) == (body, "gzip")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "GZIP"])
@pytest.mark.parametrize("target", ["/v2/team/app/manifests/1.0", MUTABLE, f"/v2/team/app/manifests/{DIGEST}"])
async def test_h38_a_compressed_manifest_is_refused(coding: str, target: str, shared_redis: RedisServer) -> None:
    async with edge_on(fine, shared_redis) as (edge, upstream):
        before = await keys(edge)
        body = gzip.compress(b"{}" + request("PUT", "/v2/team/app/manifests/2.0", [TYPED], b"{}"))
        answer = await ask(edge.port, request("PUT", target, [TYPED, ("Content-Encoding", coding)], body))
        assert (answer.status, answer.error["code"]) == (415, "UNSUPPORTED")
        assert upstream.requests == []
        assert await keys(edge) == before


# --- H39, H40: hop by hop, upgrades


async def test_h39_headers_of_one_connection_stay_on_it(shared_redis: RedisServer) -> None:
    async def script(exchange: Exchange) -> None:
        told = [("Connection", "keep-alive, X-Inner"), ("X-Inner", "1"), ("Keep-Alive", "timeout=1"), ("X-Outer", "1")]
        await exchange.answer(200, b"x", [*told, ("Proxy-Authenticate", "Basic"), ("Trailer", "X")])

    listed = "close, Content-Type, Authorization, X-Forwarded-Proto, X-Forwarded-Host, X-Mine"
    sent = [
        ("Connection", listed),
        ("X-Mine", "1"),
        ("TE", "trailers"),
        ("Proxy-Authorization", "Basic eA=="),
        ("X-Kept", "1"),
    ]
    async with edge_on(script, shared_redis) as (edge, upstream):
        answer = await ask(edge.port, request("GET", BLOB, sent))
        (seen,) = upstream.requests
        kept = {name.lower() for name, _ in seen.headers}
        assert kept == {"host", "x-kept", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-for"}
        assert {name.lower() for name, _ in answer.headers} == {"x-outer", "content-length", "date", "connection"}
        assert answer.header("Connection") == "close"


async def test_h39_a_chunked_upload_arrives_whole(shared_redis: RedisServer) -> None:
    async with edge_on(fine, shared_redis) as (edge, upstream):
        for pieces in ((b"one", b"two" * 1000, b"3"), ()):
            answer = await ask(edge.port, request("PATCH", UPLOAD, [CHUNKED], chunked(*pieces)))
            assert answer.status == 202
            assert upstream.requests[-1].body == b"".join(pieces)


async def test_h39_a_chunked_manifest_is_hashed_whole(
    shared_registry: RegistryServer, shared_redis: RedisServer, unique_name: str
) -> None:
    pushed = image("chunked")
    async with edge_over(shared_registry.url, shared_redis.url) as edge:
        await edge.client.blobs(unique_name, pushed)
        raw = chunked(pushed.body[:10], pushed.body[10:])
        answer = await ask(edge.port, request("PUT", f"/v2/{unique_name}/manifests/1.0", [TYPED, CHUNKED], raw))
        assert (answer.status, answer.header("Docker-Content-Digest")) == (201, pushed.digest)


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.0", "h2c, websocket"])
async def test_h40_no_upgrade_is_made(protocol: str, shared_redis: RedisServer) -> None:
    offer = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", protocol), ("HTTP2-Settings", "AAMAAABkAAQ")]
    async with edge_on(fine, shared_redis) as (edge, upstream):
        answer = await ask(edge.port, request("GET", BLOB, offer))
        assert (answer.status, answer.body) == (200, b"hello")
        answer = await ask(edge.port, request("PATCH", UPLOAD, offer, b"body"))
        assert answer.status == 202
        assert upstream.requests[-1].body == b"body"
        for seen in upstream.requests:
            assert not {"upgrade", "http2-settings", "connection"} & {name.lower() for name, _ in seen.headers}


async def test_h40_an_upstream_that_upgrades_by_itself_is_not_followed(shared_redis: RedisServer) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")

    async with edge_on(script, shared_redis) as (edge, _):
        assert (await ask(edge.port, request("GET", BLOB))).status == 503


# --- H41: Expect


async def test_h41_an_upload_that_waits_is_asked_for_its_body(shared_redis: RedisServer) -> None:
    async with edge_on(fine, shared_redis) as (edge, upstream), wire(edge.port) as line:
        await line.send(request("PATCH", UPLOAD, [EXPECT, ("Content-Length", "4")]))
        assert await line.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await line.send(b"body")
        assert (await line.answer()).status == 202
        (seen,) = upstream.requests
        assert (seen.body, seen.header("Expect")) == (b"body", None)


async def test_h41_a_push_that_the_upstream_denies_needs_no_body(
    start_registry: Callable[..., RegistryServer], shared_redis: RedisServer
) -> None:
    registry = start_registry(htpasswd={"ann": "right"})
    async with edge_over(registry.url, shared_redis.url) as edge:
        before = await keys(edge)
        for credential in ("", f"Basic {base64.b64encode(b'ann:wrong').decode()}"):
            sent = [TYPED, EXPECT, ("Content-Length", "1000"), ("Authorization", credential)]
            answer = await ask(edge.port, request("PUT", "/v2/team/app/manifests/1.0", sent))
            assert (answer.status, answer.interim, answer.header("Connection")) == (401, [], "close")
            assert answer.header("Www-Authenticate")
        assert await keys(edge) == before


@pytest.mark.parametrize(
    ("method", "target", "headers", "status"),
    [
        ("PUT", "/v2/team/app/manifests/1.0", [TYPED, ("Content-Length", "4194305")], 413),
        ("PUT", "/v2/team/app/manifests/1.0", [("Content-Encoding", "gzip"), ("Content-Length", "5")], 415),
        ("PUT", "/v2/team/app/manifests/.x", [("Content-Length", "5")], 400),
        ("POST", "/v2/team/app/manifests/1.0", [("Content-Length", "5")], 405),
        ("PUT", "/other", [("Content-Length", "5")], 404),
    ],
)
async def test_h41_a_refusal_that_needs_no_body_does_not_ask_for_it(
    method: str, target: str, headers: list[tuple[str, str]], status: int, shared_redis: RedisServer
) -> None:
    async with edge_on(fine, shared_redis) as (edge, upstream):
        answer = await ask(edge.port, request(method, target, [EXPECT, *headers]))
        assert (answer.status, answer.interim) == (status, [])
        assert answer.error["message"]
        assert upstream.requests == []


async def test_h41_other_expectations_are_417(shared_redis: RedisServer) -> None:
    async with edge_on(fine, shared_redis) as (edge, upstream):
        answer = await ask(edge.port, request("PATCH", UPLOAD, [("Expect", "x")], b"body"))
        assert (answer.status, answer.error["code"]) == (417, "UNSUPPORTED")
        assert upstream.requests == []


# --- H42: long headers


@pytest.mark.parametrize("size", [9_000, 32_000, 60_000])
async def test_h42_long_tokens_urls_and_answers_pass(size: int, shared_redis: RedisServer) -> None:
    long = "x" * size

    async def script(exchange: Exchange) -> None:
        await exchange.answer(202, b"", [("Location", f"{UPLOAD}?_state={long}")])

    async with edge_on(script, shared_redis) as (edge, upstream):
        sent = [("Authorization", f"Bearer {long}")]
        answer = await ask(edge.port, request("PATCH", f"{UPLOAD}?_state={long}", sent, b"x"))
        assert answer.header("Location") == f"{UPLOAD}?_state={long}"
        (seen,) = upstream.requests
        assert (seen.header("Authorization"), seen.target) == (f"Bearer {long}", f"{UPLOAD}?_state={long}")


async def test_h42_beyond_64_kib_is_an_error_of_the_specification(shared_redis: RedisServer) -> None:
    long = "x" * 70_000
    async with edge_on(fine, shared_redis) as (edge, upstream):
        for raw in (request("GET", BLOB, [("Authorization", long)]), request("GET", f"{BLOB}?{long}")):
            answer = await ask(edge.port, raw)
            assert (answer.status, answer.error["code"]) == (400, "UNSUPPORTED")
        assert upstream.requests == []


# --- H43: no second try


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("PUT", f"{UPLOAD}?digest={DIGEST}"),
        ("PATCH", UPLOAD),
        ("POST", "/v2/team/app/blobs/uploads/"),
        ("DELETE", UPLOAD),
    ],
)
@pytest.mark.parametrize("body", [b"body", None])
async def test_h43_a_write_whose_connection_breaks_is_sent_once(
    method: str, target: str, body: bytes | None, shared_redis: RedisServer
) -> None:
    async def script(exchange: Exchange) -> None:
        if exchange.method == "GET":
            await exchange.answer(200, b"warm")
        else:
            await exchange.read_body()
            exchange.hang_up()

    async with edge_on(script, shared_redis) as (edge, upstream):
        await ask(edge.port, request("GET", BLOB))  # a connection to reuse: only then would the library try again
        answer = await ask(edge.port, request(method, target, body=body))
        assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
        assert [seen.method for seen in upstream.requests] == ["GET", method]


async def test_h43_a_manifest_and_a_delete_are_sent_once(shared_redis: RedisServer) -> None:
    async def script(exchange: Exchange) -> None:
        if exchange.method == "GET":
            await exchange.answer(404, UNKNOWN)
        else:
            await exchange.read_body()
            exchange.hang_up()

    async with edge_on(script, shared_redis) as (edge, upstream):
        await ask(edge.port, request("PUT", MUTABLE, [TYPED], b"{}"))
        assert [seen.method for seen in upstream.requests].count("PUT") == 1
        await ask(edge.port, request("DELETE", MUTABLE))
        assert [seen.method for seen in upstream.requests].count("DELETE") == 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_h43_a_read_on_a_connection_closed_meanwhile_is_sent_again(
    method: str, shared_redis: RedisServer
) -> None:
    async def script(exchange: Exchange) -> None:
        if len(upstream.requests) == 2:
            exchange.hang_up()
        else:
            await exchange.answer(200, b"" if exchange.method == "HEAD" else b"hello")

    async with edge_on(script, shared_redis) as (edge, upstream):
        for _ in range(2):
            assert (await ask(edge.port, request(method, BLOB))).status == 200
        assert len(upstream.requests) == 3


# --- H44: redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_h2_h44_a_redirect_is_the_clients_to_follow(status: int, shared_redis: RedisServer) -> None:
    signed = "https://storage.example/bucket/blob?X-Sig=a%2Fb%3D&x=%7E"

    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, b"moved", [("Location", signed)])

    async with edge_on(script, shared_redis) as (edge, upstream):
        for method, body in (("GET", None), ("HEAD", None), ("PATCH", b"x")):
            target = UPLOAD if body else BLOB
            answer = await ask(edge.port, request(method, target, [("Authorization", "Basic eA==")], body))
            assert (answer.status, answer.header("Location")) == (status, signed)
        assert len(upstream.requests) == 3


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_h2_the_proxy_itself_follows_no_redirect(
    status: int, shared_redis: RedisServer, unique_name: str
) -> None:
    """Its own questions and the push of a manifest: the library would send the body to wherever it is told."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, b"", [("Location", "/v2/other/manifests/elsewhere")])

    async with edge_on(script, shared_redis) as (edge, upstream):
        for reference in ("1.0", "latest", DIGEST):
            for method, body in (("GET", None), ("HEAD", None), ("PUT", b'{"schemaVersion":2}'), ("DELETE", None)):
                target = f"/v2/{unique_name}/manifests/{reference}"
                await ask(edge.port, request(method, target, [TYPED], body))
        assert {exchange.method for exchange in upstream.requests} == {"GET", "HEAD", "PUT", "DELETE"}
        assert not [exchange.target for exchange in upstream.requests if "elsewhere" in exchange.target]


# --- H45: slow ones


async def test_h45_a_slow_upload_is_no_error(shared_redis: RedisServer) -> None:
    async with edge_on(fine, shared_redis) as (edge, upstream), wire(edge.port) as line:
        await line.send(request("PATCH", UPLOAD, [("Content-Length", "20")]))
        for _ in range(20):
            await line.send(b"x")
            await asyncio.sleep(0.01)
        assert (await line.answer()).status == 202
        assert upstream.requests[0].body == b"x" * 20


async def test_h45_an_upload_that_stops_coming_is_given_up(
    shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "IDLE", 0.2)
    async with edge_on(fine, shared_redis) as (edge, upstream):
        answer = await ask(edge.port, request("PATCH", UPLOAD, [("Content-Length", "20")]) + b"half")
        assert (answer.status, answer.error["code"]) == (408, "UNSUPPORTED")
        await _until(lambda: upstream.requests[0].body == b"half")
        assert not upstream.requests[0].body_is_whole


async def test_h45_many_stalled_uploads_leave_room_for_a_push(
    shared_registry: RegistryServer, shared_redis: RedisServer, unique_name: str
) -> None:
    async with edge_over(shared_registry.url, shared_redis.url) as edge, contextlib.AsyncExitStack() as stack:
        starts = (edge.direct.ask("POST", f"/v2/{unique_name}/blobs/uploads/") for _ in range(110))
        for start in await asyncio.gather(*starts):
            line = await stack.enter_async_context(wire(edge.port))
            path = start.headers["Location"].removeprefix(shared_registry.url)
            await line.send(request("PATCH", path, [("Content-Length", "1000000")]) + b"x")
        async with asyncio.timeout(5):
            assert (await edge.client.push(unique_name, "1.0", image("among the stalled"))).status == 201


# --- H47: clients that go away


async def test_h47_half_a_manifest_is_nothing(shared_redis: RedisServer) -> None:
    async with edge_on(fine, shared_redis) as (edge, upstream):
        before = await keys(edge)
        for framing in (("Content-Length", "1000"), CHUNKED):
            async with wire(edge.port) as line:
                await line.send(request("PUT", MUTABLE, [TYPED, framing]) + b"3e8\r\n{" + b"x" * 100)
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.1)
        assert upstream.requests == []
        assert await keys(edge) == before


async def test_h47_a_push_whose_client_is_gone_comes_to_its_end(
    shared_registry: RegistryServer, shared_redis: RedisServer, unique_name: str
) -> None:
    pushed = image("client gone")
    async with edge_over(shared_registry.url, shared_redis.url) as edge:
        await edge.client.blobs(unique_name, pushed)
        async with wire(edge.port) as line:
            await line.send(request("PUT", f"/v2/{unique_name}/manifests/1.0", [TYPED], pushed.body))
            await _until(lambda: bool(edge.parts.manifest_puts._running))
        await edge.parts.manifest_puts.finished()
        assert (await edge.client.pull(unique_name, "1.0")).digest == pushed.digest


async def test_h47_half_an_upload_reaches_the_upstream_as_half(shared_redis: RedisServer) -> None:
    async with edge_on(fine, shared_redis) as (edge, upstream):
        for framing, half in ((("Content-Length", "1000"), b"half"), (CHUNKED, b"4\r\nhalf\r\n")):
            async with wire(edge.port) as line:
                await line.send(request("PATCH", UPLOAD, [framing]) + half)
                await _until(lambda: bool(upstream.requests))
            (seen,) = upstream.requests
            await _until(lambda: upstream.requests[0].body == b"half")
            assert not seen.body_is_whole
            upstream.everything.clear()


async def test_h47_a_pull_whose_client_is_gone_ends_at_the_upstream(shared_redis: RedisServer) -> None:
    ended = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            while True:
                await exchange.send(b"x" * 100_000)
        except ConnectionError:
            ended.set()

    async with edge_on(script, shared_redis) as (edge, _):
        async with wire(edge.port) as line:
            await line.send(request("GET", BLOB))
            await line.reader.readexactly(1_000_000)
        async with asyncio.timeout(5):
            await ended.wait()


@pytest.mark.parametrize("begun", [True, False])
async def test_h47_an_upstream_that_thinks_is_told_when_the_client_is_gone(
    begun: bool, shared_redis: RedisServer
) -> None:
    thinking, ended = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        if begun:
            await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
        thinking.set()
        with contextlib.suppress(ConnectionError):
            await exchange.reader.read(1)
        ended.set()
        exchange.hang_up()

    async with edge_on(script, shared_redis) as (edge, upstream):
        async with wire(edge.port) as line:
            await line.send(request("GET", BLOB))
            await thinking.wait()
        async with asyncio.timeout(5):
            await ended.wait()
        assert len(upstream.requests) == 1


# --- H48: answers before the end of the body


async def test_h48_an_early_refusal_of_an_upload_reaches_the_client(shared_redis: RedisServer) -> None:
    """A client that sends 32 MB before it reads must see the status, not a reset."""

    async def script(exchange: Exchange) -> None:
        challenge = b'Www-Authenticate: Bearer realm="r"\r\n'
        await exchange.send(
            b"HTTP/1.1 401 Unauthorized\r\n" + challenge + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}"
        )
        await asyncio.sleep(0.2)  # as Go's server does, so that its answer is not overtaken by the reset
        exchange.hang_up()

    async with edge_on(script, shared_redis) as (edge, upstream):
        for framing in (("Content-Length", "32000000"), CHUNKED):
            async with wire(edge.port) as line:
                await line.send(request("PATCH", UPLOAD, [framing]))
                piece = b"x" * 1_000_000
                for _ in range(32):
                    await line.send(chunked(piece).removesuffix(b"0\r\n\r\n") if framing is CHUNKED else piece)
                answer = await line.answer()
                assert (answer.status, answer.body, answer.header("Connection")) == (401, b"{}", "close")
                assert answer.header("Www-Authenticate") == 'Bearer realm="r"'
        assert len(upstream.requests) == 2


async def test_h48_a_manifest_that_is_too_large_is_told_so(shared_redis: RedisServer) -> None:
    async with edge_on(fine, shared_redis) as (edge, upstream), wire(edge.port) as line:
        await line.send(request("PUT", MUTABLE, [TYPED], b"x" * 8_000_000))
        answer = await line.answer()
        assert (answer.status, answer.error["code"]) == (413, "SIZE_INVALID")
        assert upstream.requests == []


# --- H50: what is no HTTP, or two kinds of it

HEAD = b"PUT /v2/team/app/manifests/1.0 HTTP/1.1\r\nHost: edge\r\nContent-Type: " + OCI_MANIFEST.encode() + b"\r\n"
SECOND = request("PUT", "/v2/team/app/manifests/2.0", [TYPED], b"{}")
MALFORMED = {
    "CL and TE": HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND,
    "TE and CL": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n" + SECOND,
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}" + SECOND,
    "the same length twice": HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" + SECOND,
    "a list of lengths": HEAD + b"Content-Length: 2, 2\r\n\r\n{}" + SECOND,
    "signed length": HEAD + b"Content-Length: +2\r\n\r\n{}" + SECOND,
    "negative length": HEAD + b"Content-Length: -2\r\n\r\n{}",
    "length with underscore": HEAD + b"Content-Length: 1_0\r\n\r\n{}",
    "another coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SECOND,
    "chunked twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + SECOND,
    "chunked not last": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SECOND,
    "folded line": HEAD + b"X-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\n{}",
    "bare LF": (HEAD + b"Content-Length: 2\r\n\r\n{}").replace(b"\r\n", b"\n"),
    "bare LF in the head": HEAD + b"X-A: 1\nContent-Length: 2\r\n\r\n{}",
    "two hosts": HEAD + b"Host: other\r\nContent-Length: 2\r\n\r\n{}",
    "no host": b"GET /v2/ HTTP/1.1\r\n\r\n",
    "a host that is none": b"GET /v2/ HTTP/1.1\r\nHost: a b\r\n\r\n",
    "host with a path": b"GET /v2/ HTTP/1.1\r\nHost: evil/x\r\n\r\n",
    "space before the colon": HEAD + b"Content-Length : 2\r\n\r\n{}",
    "no name": HEAD + b": x\r\n\r\n",
    "NUL in a value": HEAD + b"X-A: a\x00b\r\n\r\n",
    "CR in a value": HEAD + b"X-A: a\rb\r\n\r\n",
    "unicode in a name": HEAD + b"X-\xc3\xa9: 1\r\n\r\n",
    "no version": b"GET /v2/\r\n\r\n",
    "another version": b"GET /v2/ HTTP/3.7\r\nHost: edge\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n",
    "lower case method": b"put /v2/team/app/manifests/1.0 HTTP/1.1\r\nHost: edge\r\nContent-Length: 2\r\n\r\n{}",
    "raw space in the target": b"GET /v2/team/app/manifests/a b HTTP/1.1\r\nHost: edge\r\n\r\n",
    "raw tab in the target": b"GET /v2/team/app/manifests/a\tb HTTP/1.1\r\nHost: edge\r\n\r\n",
    "raw unicode in the target": b"GET /v2/team/app/manifests/\xc3\xa9 HTTP/1.1\r\nHost: edge\r\n\r\n",
    "CONNECT": b"CONNECT registry:5000 HTTP/1.1\r\nHost: edge\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: edge\r\n\r\n",
    "absolute form": b"PUT http://evil/v2/team/app/manifests/1.0 HTTP/1.1\r\nHost: edge\r\nContent-Length: 2\r\n\r\n{}",
    "129 headers": HEAD + b"".join(b"X-%d: 1\r\n" % number for number in range(200)) + b"\r\n",
    "bad chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n" + SECOND,
    "signed chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n" + SECOND,
    "chunk without its end": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}x\r\n0\r\n\r\n" + SECOND,
    "chunks ended by bare LF": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n" + SECOND,
    "LF in a chunk extension": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;a\n{}\r\n0\r\n\r\n" + SECOND,
}


@pytest.mark.parametrize("kind", MALFORMED)
async def test_h50_malformed_requests_get_an_oci_error_and_touch_nothing(kind: str, shared_redis: RedisServer) -> None:
    async with edge_on(fine, shared_redis) as (edge, upstream):
        before = await keys(edge)
        answer = await ask(edge.port, MALFORMED[kind])
        assert 400 <= answer.status < 500, answer
        assert answer.error["code"] in {"UNSUPPORTED", "NAME_INVALID", "DIGEST_INVALID"}
        assert upstream.requests == []
        assert await keys(edge) == before


# --- H51: memory


async def _sent_before_it_blocks(send: Callable[[bytes], object], seconds: float = 0.5) -> int:
    """Bytes that go out before the other side takes no more."""
    total, piece = 0, b"x" * 65536
    with contextlib.suppress(TimeoutError):
        while total < 200_000_000:
            async with asyncio.timeout(seconds):
                await send(piece)  # type: ignore[misc]
            total += len(piece)
    return total


MOST_IN_FLIGHT = 2_000_000 + 2 * sum(
    int(Path(f"/proc/sys/net/ipv4/tcp_{kind}mem").read_text().split()[-1]) for kind in "rw"
)
"""The kernel's socket buffers on both sides, and a pipe or the proxy's own 512 KiB between them."""


async def test_h51_an_upload_waits_for_an_upstream_that_does_not_read(
    shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "STALLED", 1.5)

    async def script(exchange: Exchange) -> None:
        await asyncio.sleep(60)

    async with edge_on(script, shared_redis) as (edge, _), wire(edge.port) as line:
        await line.send(request("PATCH", UPLOAD, [("Content-Length", "1000000000")]))
        assert await _sent_before_it_blocks(line.send) < MOST_IN_FLIGHT
        answer = await line.answer()  # but it does not wait for ever
        assert (answer.status, answer.header("Connection")) == (503, "close")


async def test_h51_a_download_waits_for_a_client_that_does_not_read(shared_redis: RedisServer) -> None:
    sent: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        sent.set_result(await _sent_before_it_blocks(exchange.send))

    async with edge_on(script, shared_redis) as (edge, _), wire(edge.port) as line:
        await line.send(request("GET", BLOB))
        assert await sent < MOST_IN_FLIGHT


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_h51_fifty_transfers_at_a_time_need_little_memory(shared_redis: RedisServer) -> None:
    """Fifty uploads and fifty downloads of 3 MiB; were they held whole, that would be 300 MiB."""
    pieces, piece = 12, bytes(range(256)) * 1024
    size = pieces * len(piece)
    start = highest = 0

    async def receive(reader: asyncio.StreamReader) -> bool:
        nonlocal highest
        same = True
        for _ in range(pieces):
            same &= await reader.readexactly(len(piece)) == piece
            highest = max(highest, _resident())
        return same

    async def script(exchange: Exchange) -> None:
        if exchange.method == "GET":
            await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(pieces):
                await exchange.send(piece)
        else:
            status = 201 if await receive(exchange.reader) else 400
            await exchange.send(b"HTTP/1.1 %d Received\r\nContent-Length: 0\r\n\r\n" % status)

    async def upload(port: int) -> bool:
        async with wire(port) as line:
            await line.send(request("PATCH", UPLOAD, [("Content-Length", str(size))]))
            for _ in range(pieces):
                await line.send(piece)
            return (await line.answer()).status == 201

    async def download(port: int) -> bool:
        async with wire(port) as line:
            await line.send(request("GET", BLOB))
            await line.reader.readuntil(b"\r\n\r\n")
            return await receive(line.reader)

    async with edge_on(script, shared_redis) as (edge, _):
        start = highest = _resident()
        ways = [upload(edge.port) for _ in range(50)] + [download(edge.port) for _ in range(50)]
        assert all(await asyncio.gather(*ways))
        assert highest - start < 150 * 2**20, f"{(highest - start) / 2**20:.0f} MiB"


# --- H52: cookies


async def test_h52_no_client_gets_anothers_cookie(shared_redis: RedisServer) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(200, b"", [("Set-Cookie", "session=ann; Path=/"), ("Set-Cookie", "b=2")])

    async with edge_on(script, shared_redis) as (edge, upstream):
        first = await ask(edge.port, request("GET", BLOB))
        assert first.all("Set-Cookie") == ["session=ann; Path=/", "b=2"]
        await ask(edge.port, request("GET", BLOB))
        await ask(edge.port, request("GET", BLOB, [("Cookie", "session=bob")]))
        assert [seen.header("Cookie") for seen in upstream.requests] == [None, None, "session=bob"]


# --- answers that break off


@pytest.mark.parametrize(
    "half",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ],
)
async def test_half_an_answer_never_looks_whole(half: bytes, shared_redis: RedisServer) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(half)
        await asyncio.sleep(0.05)
        exchange.hang_up()

    async with edge_on(script, shared_redis) as (edge, _):
        answer = await ask(edge.port, request("GET", BLOB))
        assert (answer.status, answer.whole) in {(200, False), (503, True)}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: s=\x01x\r\n\r\n",
    ],
)
async def test_an_upstream_that_speaks_no_http_is_unavailable(raw: bytes, shared_redis: RedisServer) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.read_body()
        await exchange.send(raw)
        exchange.hang_up()

    async with edge_on(script, shared_redis) as (edge, upstream):
        for method, target, body in (
            ("GET", BLOB, None),
            ("PATCH", UPLOAD, b"x"),
            ("GET", "/v2/a/manifests/1.0", None),
        ):
            answer = await ask(edge.port, request(method, target, body=body))
            assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
            assert answer.header("Retry-After")
            assert str(upstream.port) not in answer.body.decode()


async def test_h49_an_upstream_that_is_away_is_not_named(shared_redis: RedisServer) -> None:
    async with scripted(fine) as upstream:
        url = upstream.url
    async with edge_over(url, shared_redis.url) as edge:
        before = await keys(edge)
        for method, target in (("GET", BLOB), ("GET", "/v2/a/manifests/1.0"), ("PUT", MUTABLE), ("DELETE", MUTABLE)):
            answer = await ask(edge.port, request(method, target, [TYPED], b"{}" if method == "PUT" else None))
            assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
            assert "127.0.0.1" not in answer.body.decode()
        assert await keys(edge) == before


async def _until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
