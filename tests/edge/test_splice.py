"""Bodies that the kernel moves, and the same by way of the relay: nobody can tell the two apart but by the work."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import hashlib
import os
import random
import resource
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from aiohttp.http import StreamWriter
from structlog.testing import capture_logs

from immuproxy.edge import bodies, relay, server, splice
from immuproxy.edge.server import EdgeServer
from immuproxy.edge.settings import Timeouts
from immuproxy.listening import connections, files
from tests.support.conversation import RunningEdge, edge_over, sha256
from tests.support.servers import RedisServer, RegistryServer
from tests.support.wire import Exchange, Script, ScriptedUpstream, Wire, ask, chunked, request, scripted, wire

UPLOAD = "/v2/team/app/blobs/uploads/one"
BLOB = f"/v2/team/app/blobs/sha256:{'0a' * 32}"
CONTENT = random.Random(14).randbytes(5_000_000)
OTHER = random.Random(15).randbytes(3_000_000)
SMUGGLED = request("DELETE", "/v2/team/app/blobs/uploads/smuggled")


class Way:
    """How many bytes the kernel has moved out of sockets."""

    def __init__(self) -> None:
        self.moved = 0


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Way:
    way, by_kernel, pipes = Way(), os.splice, set[int]()
    made = os.pipe2

    def pipe2(flags: int) -> tuple[int, int]:
        out, into = made(flags)
        pipes.add(into)
        return out, into

    def counting(source: int, target: int, count: int, *, flags: int) -> int:
        moved = by_kernel(source, target, count, flags=flags)
        way.moved += moved if target in pipes else 0
        return moved

    monkeypatch.setattr(os, "pipe2", pipe2)
    monkeypatch.setattr(os, "splice", counting)
    return way


@pytest.fixture(params=["kernel", "relay"])
def way(request: pytest.FixtureRequest, counted: Way, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    """Both ways; each test that asks for this moves at least one long body."""
    monkeypatch.setattr(splice, "_POSSIBLE", request.param == "kernel")
    yield counted
    assert (counted.moved > 0) is (request.param == "kernel")


@pytest.fixture(autouse=True)
async def _nothing_stays_open() -> AsyncIterator[None]:
    """No pipe and no socket of a transfer outlives it."""
    yield
    async with asyncio.timeout(5):
        while splice._pipes._open:
            await asyncio.sleep(0.01)
    assert splice._pipes._left == splice.ROOM


@contextlib.asynccontextmanager
async def edge_on(script: Script, redis: RedisServer) -> AsyncIterator[tuple[RunningEdge, ScriptedUpstream]]:
    async with scripted(script) as upstream, edge_over(upstream.url, redis.url) as edge:
        yield edge, upstream


async def gives(exchange: Exchange) -> None:
    """Reads get the content, everything else is taken."""
    await exchange.answer(200 if exchange.method == "GET" else 201, CONTENT if exchange.method == "GET" else b"")


def head(length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length


def same(one: bytes, other: bytes) -> bool:
    return hashlib.sha256(one).digest() == hashlib.sha256(other).digest()


def upstream_lines(upstream: ScriptedUpstream) -> int:
    """Over how many connections it was asked."""
    return len({id(exchange.writer) for exchange in upstream.requests})


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with a reset."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def forget_limits(monkeypatch: pytest.MonkeyPatch, edge: RunningEdge, idle: float) -> None:
    connections_now = edge.parts.edge._upstream.connections
    monkeypatch.setattr(connections_now, "timeouts", Timeouts.model_construct(manifest=5.0, idle=idle))


# --- whole bodies


async def test_downloads_are_whole_and_both_connections_go_on(way: Way, shared_redis: RedisServer) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(200, CONTENT if exchange.target == BLOB else b"small")

    async with edge_on(script, shared_redis) as (edge, upstream), wire(edge.port) as line:
        for _ in range(3):
            await line.send(request("GET", BLOB))
            assert same((await line.answer()).body, CONTENT)
            await line.send(request("GET", "/v2/"))
            assert (await line.answer()).body == b"small"  # at once: no mark of ours is left on the connection
        assert upstream_lines(upstream) == 1


async def test_uploads_are_whole_and_both_connections_go_on(way: Way, shared_redis: RedisServer) -> None:
    async with edge_on(gives, shared_redis) as (edge, upstream), wire(edge.port) as line:
        for content in (CONTENT, OTHER, CONTENT):
            await line.send(request("PATCH", UPLOAD, body=content))
            assert (await line.answer("PATCH")).status == 201
            await line.send(request("PATCH", UPLOAD, body=b"small"))
            assert (await line.answer("PATCH")).status == 201
        sent = [exchange.body for exchange in upstream.requests]
        assert all(
            same(*pair) for pair in zip(sent, [CONTENT, b"small", OTHER, b"small", CONTENT, b"small"], strict=True)
        )
        assert upstream_lines(upstream) == 1


async def test_a_real_registry_takes_and_gives_what_the_kernel_moves(
    way: Way, registry: RegistryServer, shared_redis: RedisServer
) -> None:
    async with edge_over(registry.url, shared_redis.url) as edge:
        for each in (CONTENT, OTHER):
            path = f"/v2/team/app/blobs/{sha256(each)}"
            start = await edge.client.ask("POST", "/v2/team/app/blobs/uploads/")
            target = f"{start.headers['Location'].removeprefix(edge.client.url)}&digest={sha256(each)}"
            assert (await ask(edge.port, request("PUT", target, body=each))).status == 201
            assert same((await edge.client.ask("GET", path)).body, each)
            part = await edge.client.ask("GET", path, Range="bytes=1000000-2500000")
            assert (part.status, same(part.body, each[1_000_000:2_500_001])) == (206, True)


async def test_each_byte_is_counted_once(way: Way, shared_redis: RedisServer) -> None:
    with capture_logs() as logs:
        async with edge_on(gives, shared_redis) as (edge, _), wire(edge.port) as line:
            await line.send(request("GET", BLOB))
            answer = await line.answer()
            await line.send(request("PATCH", UPLOAD, body=OTHER))
            await line.answer("PATCH")
            await line.send(request("GET", "/v2/"))  # the line of an answer may come a moment after it
            await line.answer()
    down, up = [entry for entry in logs if entry["event"] == "request"][:2]
    written = len(f"HTTP/1.1 {answer.status} {answer.reason}\r\n\r\n".encode())
    written += sum(len(f"{name}: {value}\r\n".encode()) for name, value in answer.headers)
    assert (down["received_bytes"], down["sent_bytes"]) == (0, written + len(CONTENT))
    assert up["received_bytes"] == len(OTHER)
    assert up["sent_bytes"] < 1000


@pytest.mark.parametrize("expects", [True, False])
@pytest.mark.parametrize("with_head", [0, 1, 100_000, 1_000_000])
async def test_what_comes_with_the_head_goes_first(
    way: Way, with_head: int, expects: bool, shared_redis: RedisServer
) -> None:
    fields = [("Content-Length", str(len(CONTENT))), *([("Expect", "100-continue")] if expects else [])]
    async with edge_on(gives, shared_redis) as (edge, upstream), wire(edge.port) as line:
        await line.send(request("PATCH", UPLOAD, fields) + CONTENT[:with_head])
        await until(lambda: bool(upstream.requests) or not with_head)
        await line.send(CONTENT[with_head:])
        answer = await line.answer("PATCH")
        assert answer.status == 201
        assert answer.interim in ([[100]] if expects and not with_head else [[], [100]])
        assert same(upstream.requests[0].body, CONTENT)


async def test_an_answer_whose_body_comes_in_odd_pieces_is_whole(way: Way, shared_redis: RedisServer) -> None:
    """Both sides stop now and then, so that each waits for the other."""
    dice = random.Random(3)

    def pieces(content: bytes) -> Iterator[bytes]:
        while content:
            size = dice.choice([1, 1000, 65_536, 300_000, 1_500_000])
            yield content[:size]
            content = content[size:]

    async def script(exchange: Exchange) -> None:
        if exchange.method == "PATCH":
            exchange.body = b""
            while len(exchange.body) < len(CONTENT):
                exchange.body += await exchange.reader.read(dice.choice([1, 5000, 500_000]))
                await asyncio.sleep(dice.choice([0, 0, 0.003]))
            await exchange.send(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
            return
        await exchange.send(head(len(CONTENT)))
        for piece in pieces(CONTENT):
            await exchange.send(piece)
            await asyncio.sleep(dice.choice([0, 0, 0.02]))

    async with edge_on(script, shared_redis) as (edge, upstream), wire(edge.port) as line:
        await line.send(request("GET", BLOB))
        await line.reader.readuntil(b"\r\n\r\n")
        got = b""
        while len(got) < len(CONTENT):
            got += await line.reader.read(dice.choice([1, 5000, 500_000]))
            await asyncio.sleep(dice.choice([0, 0, 0.003]))
        assert same(got, CONTENT)
        await line.send(request("PATCH", UPLOAD, [("Content-Length", str(len(CONTENT)))]))
        for piece in pieces(CONTENT):
            await line.send(piece)
            await asyncio.sleep(dice.choice([0, 0, 0.02]))
        assert (await line.answer("PATCH")).status == 201
        assert same(upstream.requests[1].body, CONTENT)


async def test_h140_many_at_once_each_get_their_own(way: Way, shared_redis: RedisServer) -> None:
    """Also where pipes of several sizes are in use, and some transfers get none."""
    contents = {
        f"/v2/team/app/blobs/sha256:{number:064x}": random.Random(number).randbytes(1_000_000) for number in range(60)
    }

    async def script(exchange: Exchange) -> None:
        await exchange.answer(200 if exchange.method == "GET" else 201, contents.get(exchange.target, b""))

    async with edge_on(script, shared_redis) as (edge, upstream):

        async def both(path: str, content: bytes) -> bool:
            async with wire(edge.port) as line:
                await line.send(request("GET", path))
                down = same((await line.answer()).body, content)
                await line.send(request("PATCH", f"{UPLOAD}{path[-64:]}", body=content))
                return down and (await line.answer("PATCH")).status == 201

        assert all(await asyncio.gather(*(both(*each) for each in contents.items())))
        received = {
            exchange.target[-64:]: exchange.body for exchange in upstream.requests if exchange.method == "PATCH"
        }
        assert all(same(received[path[-64:]], content) for path, content in contents.items())


# --- what is left to the relay


@pytest.mark.parametrize(
    "case", ["chunked", "short", "no length", "HEAD", "no pipe", "no file", "the kernel says no", "no room"]
)
async def test_everything_else_takes_the_relay(
    case: str, counted: Way, shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = CONTENT[:1000] if case == "short" else CONTENT

    async def script(exchange: Exchange) -> None:
        if exchange.method == "PATCH":
            await exchange.answer(201)
        elif case == "chunked":
            await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(content))
        elif case == "no length":
            await exchange.send(b"HTTP/1.1 200 OK\r\n\r\n" + content)
            exchange.hang_up()
        else:
            await exchange.answer(200, content)

    _without(case, monkeypatch)
    async with edge_on(script, shared_redis) as (edge, upstream), wire(edge.port) as line:
        method = "HEAD" if case == "HEAD" else "GET"
        await line.send(request(method, BLOB))
        assert same((await line.answer(method)).body, b"" if method == "HEAD" else content)
        if case not in {"no length", "HEAD"}:
            fields, body = (
                ([("Transfer-Encoding", "chunked")], chunked(content)) if case == "chunked" else ([], content)
            )
            await line.send(request("PATCH", UPLOAD, fields, body))
            assert (await line.answer("PATCH")).status == 201
            assert same(upstream.requests[1].body, content)
    assert counted.moved == 0


def _without(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise OSError(errno.EINVAL, "no")

    match case:
        case "no pipe":
            monkeypatch.setattr(os, "pipe2", refuse)
        case "no room":
            monkeypatch.setattr(splice._pipes, "_left", splice.SIZES[-1] - 1)
            monkeypatch.setattr(splice, "ROOM", splice.SIZES[-1] - 1)
        case "no file":
            monkeypatch.setattr(files, "room", lambda share: 3 if share == splice.FILES else files.MOST)
        case "the kernel says no":
            monkeypatch.setattr(os, "splice", refuse)


async def test_tls_takes_the_relay(counted: Way, shared_redis: RedisServer) -> None:
    authority = trustme.CA()
    context, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(trusting)
    async with edge_on(gives, shared_redis) as (edge, upstream):
        runner = web.ServerRunner(EdgeServer(edge.parts.edge.handle))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        port = runner.addresses[0][1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname="localhost")
        line = Wire(reader, writer)
        await line.send(request("GET", BLOB))
        assert same((await line.answer()).body, CONTENT)
        await line.send(request("PATCH", UPLOAD, body=CONTENT))
        assert (await line.answer("PATCH")).status == 201
        assert same(upstream.requests[1].body, CONTENT)
        writer.close()
        await runner.cleanup()
    assert counted.moved == 0


async def test_h141_pipes_become_smaller_and_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "room", lambda _share: files.MOST)
    sizes = []
    with contextlib.ExitStack() as stack:
        with pytest.raises(OSError, match=os.strerror(errno.ENOBUFS)):
            while True:
                sizes.append(stack.enter_context(splice._pipes.one()).size)
        assert sizes[0] == splice.SIZES[0]
        assert set(sizes) == set(splice.SIZES)
        assert sizes == sorted(sizes, reverse=True)
        assert sum(sizes) <= splice.ROOM < 64 * 2**20
        assert splice._pipes._open == len(sizes) > 100
    assert (splice._pipes._open, splice._pipes._left) == (0, splice.ROOM)


async def test_h141_transfers_use_up_no_more_than_their_share_of_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (1024, hard))
    with contextlib.ExitStack() as stack:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                stack.enter_context(splice._pipes.one())
        assert splice._pipes._open * splice.FILES_EACH <= splice.FILES * 1024 < soft


# --- H139: what follows a body, and bodies that are not as long as they say


async def test_h139_requests_behind_a_body_are_answered_in_their_order(way: Way, shared_redis: RedisServer) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(200, exchange.target.encode() if exchange.target != BLOB else CONTENT)

    second, third = "/v2/team/app/tags/list", "/v2/"
    async with edge_on(script, shared_redis) as (edge, upstream), wire(edge.port) as line:
        sending = asyncio.create_task(
            line.send(
                request("PATCH", UPLOAD, body=CONTENT)
                + request("GET", second)
                + request("PATCH", UPLOAD, body=OTHER)
                + request("GET", BLOB)
                + request("GET", third)
            )
        )
        for expected in (UPLOAD.encode(), second.encode(), UPLOAD.encode(), CONTENT, third.encode()):
            assert same((await line.answer()).body, expected)
        await sending
        assert [exchange.target for exchange in upstream.requests] == [UPLOAD, second, UPLOAD, BLOB, third]
        assert same(upstream.requests[0].body, CONTENT)
        assert same(upstream.requests[2].body, OTHER)


async def test_h139_requests_sent_during_a_download_wait_for_its_end(way: Way, shared_redis: RedisServer) -> None:
    halfway = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        if exchange.target != BLOB:
            await exchange.answer(200, b"next")
            return
        await exchange.send(head(len(CONTENT)) + CONTENT[:2_000_000])
        await halfway.wait()
        await exchange.send(CONTENT[2_000_000:])

    async with edge_on(script, shared_redis) as (edge, _), wire(edge.port) as line:
        await line.send(request("GET", BLOB))
        await line.reader.readuntil(b"\r\n\r\n")
        first = await line.reader.readexactly(2_000_000)
        await line.send(request("GET", "/v2/"))
        halfway.set()
        assert same(first + await line.reader.readexactly(len(CONTENT) - len(first)), CONTENT)
        assert (await line.answer()).body == b"next"


async def test_h139_an_upstream_that_sends_more_answers_nobody_with_it(way: Way, shared_redis: RedisServer) -> None:
    forged = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"

    async def script(exchange: Exchange) -> None:
        if exchange.target == BLOB:
            await exchange.send(head(len(CONTENT)) + CONTENT + forged)
        else:
            await exchange.answer(200, b"honest")

    async with edge_on(script, shared_redis) as (edge, upstream), wire(edge.port) as line:
        await line.send(request("GET", BLOB))
        assert same((await line.answer()).body, CONTENT)
        if splice._POSSIBLE:  # the library itself takes it for the answer to the next request
            await line.send(request("GET", "/v2/"))
            assert (await line.answer()).body == b"honest"
            assert upstream_lines(upstream) == 2


async def test_h139_what_an_upstream_sends_unasked_ends_its_connection(way: Way, shared_redis: RedisServer) -> None:
    sent = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.answer(200, CONTENT if exchange.target == BLOB else b"honest")
        if exchange.target == BLOB:
            await asyncio.sleep(0.3)
            await exchange.send(b"nobody asked for this\r\n\r\n")
            sent.set()

    async with edge_on(script, shared_redis) as (edge, upstream), wire(edge.port) as line:
        await line.send(request("GET", BLOB))
        assert same((await line.answer()).body, CONTENT)
        await sent.wait()
        await asyncio.sleep(0.1)
        await line.send(request("GET", "/v2/"))
        assert (await line.answer()).body == b"honest"
        assert upstream_lines(upstream) == 2


@pytest.mark.parametrize("how", ["closes", "resets", "falls silent"])
async def test_h139_an_upstream_that_sends_less_cuts_the_client_off(
    way: Way, how: str, shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.send(head(len(CONTENT)) + CONTENT[:3_000_000])
        if how == "falls silent":
            await exchange.reader.read(1)
            gone.set()
        else:
            await asyncio.sleep(0.3)
            exchange.hang_up() if how == "closes" else reset(exchange.writer)

    with capture_logs() as logs:
        async with edge_on(script, shared_redis) as (edge, _), wire(edge.port) as line:
            if how == "falls silent":
                forget_limits(monkeypatch, edge, idle=0.6)
            await line.send(request("GET", BLOB))
            async with asyncio.timeout(10):
                answer = await line.answer()
            assert not answer.whole
            assert CONTENT.startswith(answer.body)
            assert await line.is_closed()
            if how == "falls silent":
                async with asyncio.timeout(5):
                    await gone.wait()
    assert [entry["event"] for entry in logs if entry["event"] == "answer cut short"] == ["answer cut short"]


async def test_h139_an_upstream_that_closes_after_the_last_byte_has_sent_all(
    way: Way, shared_redis: RedisServer
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(200, CONTENT)
        exchange.hang_up()

    async with edge_on(script, shared_redis) as (edge, _), wire(edge.port) as line:
        for _ in range(2):
            await line.send(request("GET", BLOB))
            assert same((await line.answer()).body, CONTENT)


# --- H47, H48: ends before the end


@pytest.mark.parametrize("how", ["closes", "resets", "sends no more"])
async def test_h47_half_an_upload_reaches_the_upstream_as_half(way: Way, how: str, shared_redis: RedisServer) -> None:
    with capture_logs() as logs:
        async with edge_on(gives, shared_redis) as (edge, upstream), wire(edge.port) as line:
            await line.send(request("PATCH", UPLOAD, [("Content-Length", str(len(CONTENT)))]) + CONTENT[:3_000_000])
            await asyncio.sleep(0.3)
            match how:
                case "closes":
                    line.writer.close()
                case "resets":
                    reset(line.writer)
                case _:
                    line.writer.write_eof()
            await until(lambda: bool(upstream.requests and upstream.requests[0].body))
            (seen,) = upstream.requests
            assert not seen.body_is_whole
            assert CONTENT.startswith(seen.body)
            await until(lambda: any(entry["event"] == "request" for entry in logs))
    (told,) = [entry for entry in logs if entry["event"] == "request"]
    assert told["status"] == 499


@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_h47_a_pull_whose_client_is_gone_ends_at_the_upstream(
    way: Way, how: str, shared_redis: RedisServer
) -> None:
    ended = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.send(head(1_000_000_000))
        try:
            while True:
                await exchange.send(CONTENT)
        except ConnectionError:
            ended.set()

    with capture_logs() as logs:
        async with edge_on(script, shared_redis) as (edge, _):
            async with wire(edge.port) as line:
                await line.send(request("GET", BLOB))
                await line.reader.readexactly(20_000_000)
                line.writer.close() if how == "closes" else reset(line.writer)
            async with asyncio.timeout(5):
                await ended.wait()
            await until(lambda: any(entry["event"] == "request" for entry in logs))
    (told,) = [entry for entry in logs if entry["event"] == "request"]
    assert told["status"] == 499


async def test_h140_nothing_behind_a_body_that_broke_off_is_taken_for_a_request(
    way: Way, shared_redis: RedisServer
) -> None:
    """What is left of the body looks like a request from some point on."""

    async def script(exchange: Exchange) -> None:
        exchange.body = await exchange.reader.readexactly(2_000_000)
        await exchange.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}")
        with contextlib.suppress(ConnectionError):
            while await exchange.reader.read(1_000_000):
                pass

    rest = SMUGGLED * 50_000
    length = 2_500_000 + len(rest)
    async with edge_on(script, shared_redis) as (edge, upstream), wire(edge.port) as line:
        await line.send(request("PATCH", UPLOAD, [("Content-Length", str(length))]) + CONTENT[:2_500_000])
        answer = await line.answer("PATCH")
        assert (answer.status, answer.body, answer.header("Connection")) == (403, b"{}", "close")
        with contextlib.suppress(ConnectionError):
            await line.send(rest + SMUGGLED)
        assert await line.is_closed()
        await asyncio.sleep(0.1)
        assert [exchange.method for exchange in upstream.requests] == ["PATCH"]


@pytest.mark.parametrize("how", ["closes", "resets", "takes no more"])
async def test_an_upstream_that_breaks_off_an_upload_is_unavailable(
    way: Way, how: str, shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "STALLED", 1.0)

    async def script(exchange: Exchange) -> None:
        await exchange.reader.readexactly(2_000_000)
        if how == "takes no more":
            await asyncio.sleep(60)
        elif how == "closes":
            exchange.hang_up()
        else:
            reset(exchange.writer)

    async with edge_on(script, shared_redis) as (edge, upstream), wire(edge.port) as line:
        await line.send(request("PATCH", UPLOAD, [("Content-Length", "1000000000")]))
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(1.5):
                for _ in range(20):
                    await line.send(CONTENT)
        answer = await line.answer("PATCH")
        assert (answer.status, answer.header("Connection")) == (503, "close")
        assert len(upstream.requests) == 1


async def test_h45_an_upload_that_stops_coming_is_given_up(
    way: Way, shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "IDLE", 0.5)
    async with edge_on(gives, shared_redis) as (edge, upstream):
        raw = request("PATCH", UPLOAD, [("Content-Length", str(len(CONTENT)))]) + CONTENT[:2_000_000]
        answer = await ask(edge.port, raw)
        assert (answer.status, answer.error["message"]) == (408, "the request's body stopped coming")
        await until(lambda: bool(upstream.requests[0].body))
        assert not upstream.requests[0].body_is_whole


async def test_h140_a_connection_whose_body_broke_off_ends_also_where_the_rest_is_short(
    way: Way, shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So short that the relay reads it and keeps the connection."""
    monkeypatch.setattr(splice, "LEAST", 1000)

    async def script(exchange: Exchange) -> None:
        if exchange.method != "PATCH":
            await exchange.answer(200)
            return
        exchange.body = await exchange.reader.readexactly(50_000)
        await exchange.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}")
        with contextlib.suppress(ConnectionError):
            await exchange.reader.read()

    async with edge_on(script, shared_redis) as (edge, upstream), wire(edge.port) as line, asyncio.timeout(8):
        await line.send(request("PATCH", UPLOAD, [("Content-Length", "200000")]) + CONTENT[:20_000])
        await until(lambda: bool(upstream.requests))
        await line.send(CONTENT[20_000:100_000])
        answer = await line.answer("PATCH")
        assert (answer.status, answer.body) == (403, b"{}")
        await line.send(CONTENT[100_000:200_000] + SMUGGLED * (3000 if splice._POSSIBLE else 1))
        if splice._POSSIBLE:
            assert await line.is_closed()
            assert [exchange.method for exchange in upstream.requests] == ["PATCH"]
        else:
            assert (await line.answer()).status == 200


# --- slow ones


async def test_the_end_of_a_body_is_not_waited_for(
    way: Way, shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be shorter than the mark that saves wake-ups."""
    monkeypatch.setattr(splice, "LOOK", 30.0)

    async def script(exchange: Exchange) -> None:
        await exchange.send(head(len(CONTENT)) + CONTENT[:-1000])
        await asyncio.sleep(0.2)
        await exchange.send(CONTENT[-1000:])

    async with edge_on(script, shared_redis) as (edge, _), wire(edge.port) as line, asyncio.timeout(10):
        await line.send(request("GET", BLOB))
        assert same((await line.answer()).body, CONTENT)


async def test_who_sends_little_at_a_time_is_soon_passed_on_at_once(
    way: Way, shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splice, "LOOK", 1.0)
    taken = asyncio.Semaphore(0)
    first, pieces = 1_000_000, 8

    async def script(exchange: Exchange) -> None:
        await exchange.send(head(len(CONTENT)) + CONTENT[:first])
        for number in range(pieces):
            await taken.acquire()
            await exchange.send(CONTENT[first + number : first + number + 1])
        await taken.acquire()

    async with edge_on(script, shared_redis) as (edge, _), wire(edge.port) as line:
        await line.send(request("GET", BLOB))
        await line.reader.readuntil(b"\r\n\r\n")
        await line.reader.readexactly(first)
        began = time.monotonic()
        for _ in range(pieces):
            taken.release()
            await line.reader.readexactly(1)
        assert time.monotonic() - began < 4


async def test_what_was_written_before_goes_out_before(
    way: Way, shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part of the body that the library has read, to a client that takes it slowly."""
    waiting, run = [], splice._Flow.run

    async def noting(flow: splice._Flow) -> Any:
        transport = flow._job.writer.transport
        waiting.append(transport.get_write_buffer_size() if transport else None)
        return await run(flow)

    async def script(exchange: Exchange) -> None:
        await exchange.answer(200, CONTENT if exchange.target == BLOB else b"small")

    async def in_haste(writer: StreamWriter, pieces: list[bytes]) -> None:
        for piece in pieces:
            await writer.write(piece, drain=False)

    monkeypatch.setattr(splice._Flow, "run", noting)
    monkeypatch.setattr(splice, "_write", in_haste)
    async with edge_on(script, shared_redis) as (edge, _), wire(edge.port) as line:
        await line.send(request("GET", "/v2/"))
        await line.answer()
        (one,) = await _connections()
        assert one.transport is not None
        one.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        await line.send(request("GET", BLOB))
        await line.reader.readuntil(b"\r\n\r\n")
        got = b""
        while len(got) < len(CONTENT):
            got += await line.reader.read(20_000)
            await asyncio.sleep(0)
        assert same(got, CONTENT)
    assert waiting == [0] * len(waiting)


async def test_h89_a_client_that_takes_nothing_gives_up_its_place(
    way: Way, shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "STUCK", 0.3)

    async def script(exchange: Exchange) -> None:
        await exchange.send(head(1_000_000_000))
        while True:
            await exchange.send(CONTENT)

    async with edge_on(script, shared_redis) as (edge, _), wire(edge.port) as line:
        await line.send(request("GET", BLOB))
        (one,) = await _connections()
        await until(lambda: one.is_stuck)
        taking = asyncio.create_task(line.reader.readexactly(300_000_000))
        await until(lambda: not one.is_stuck)
        taking.cancel()


async def _connections() -> list[connections.Connection]:
    """The edge's, once a client is here."""

    def found() -> list[connections.Connection]:
        return [each for each in gc.get_objects() if type(each) is server._Connection and each.transport]

    await until(lambda: bool(found()))
    return found()


@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_a_stop_ends_at_once_what_stands_still(
    way: Way, method: str, shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "STALLED", 0.5)

    async def script(exchange: Exchange) -> None:
        if exchange.method == "GET":
            await exchange.send(head(1_000_000_000) + CONTENT)
        await exchange.reader.readexactly(1_000_000_000)

    async with contextlib.AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(scripted(script))
        running = contextlib.AsyncExitStack()
        edge = await running.enter_async_context(edge_over(upstream.url, shared_redis.url))
        line = await stack.enter_async_context(wire(edge.port))
        await line.send(
            request("GET", BLOB) if method == "GET" else request("PATCH", UPLOAD, [("Content-Length", "1000000000")])
        )
        if method == "PATCH":
            await line.send(CONTENT)
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await running.aclose()
        assert time.monotonic() - began < 5


async def test_nothing_stays_open(way: Way, shared_redis: RedisServer) -> None:
    """Neither after whole transfers nor after broken ones."""

    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def script(exchange: Exchange) -> None:
        if exchange.method == "GET" and len(upstream.requests) % 2:
            await exchange.send(head(len(CONTENT)) + CONTENT[:1_000_000])
            exchange.hang_up()
        else:
            await gives(exchange)

    async with edge_on(script, shared_redis) as (edge, upstream):
        await ask(edge.port, request("PATCH", UPLOAD, body=CONTENT))
        before = count()
        for number in range(6):
            async with wire(edge.port) as line:
                await line.send(request("GET", BLOB))
                with contextlib.suppress(ConnectionError):
                    await line.answer()
            async with wire(edge.port) as line:
                length = len(CONTENT) + number % 2
                await line.send(request("PATCH", UPLOAD, [("Content-Length", str(length))]) + CONTENT)
        await until(lambda: count() <= before)
