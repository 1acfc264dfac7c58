"""The connections of one listener: how long a head may take, and who goes where there is no room (H89)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import statistics
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from immuproxy.edge.answers import Response
from immuproxy.edge.server import EdgeServer
from immuproxy.listening import connections
from immuproxy.listening.connections import Connection
from tests.support.listening import listening
from tests.support.wire import Wire, chunked, request, wire

HEAD = 0.2
HANGING = request("GET", "/hangs")


async def answer(asked: web.BaseRequest) -> web.StreamResponse:
    if asked.path == "/hangs":
        await asyncio.sleep(60)
    if asked.path == "/body":
        while await asked.content.readany():
            pass
    if asked.path == "/big":
        response = Response(headers={"Content-Length": "100000000"})
        await response.prepare(asked)
        for _ in range(1000):
            await response.write(bytes(100_000))
        return response
    return Response(headers={"Content-Length": "0"})


@contextlib.asynccontextmanager
async def listener(room: int = 100) -> AsyncIterator[int]:
    runner = web.ServerRunner(EdgeServer(answer, room=room), shutdown_timeout=0.1)
    async with listening(runner, handshakes=10) as port:
        yield port


async def asks(line: Wire) -> int:
    await line.send(request("GET", "/v2/"))
    return (await line.answer()).status


@pytest.fixture
def short_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD", HEAD)


@pytest.mark.usefixtures("short_heads")
@pytest.mark.parametrize("sent", [b"", b"GET /v2/ HTTP/1.1\r\nHost: x\r\n"])
async def test_h89_a_first_head_that_does_not_come_ends_the_connection(sent: bytes) -> None:
    async with listener() as port, wire(port) as line, asyncio.timeout(5):
        if sent:
            await line.send(sent)
        assert await line.is_closed()


@pytest.mark.usefixtures("short_heads")
async def test_h89_a_later_head_that_does_not_end_ends_the_connection() -> None:
    async with listener() as port, wire(port) as line, asyncio.timeout(5):
        assert await asks(line) == 200
        await line.send(b"GET /v2/ HTTP/1.1\r\n")
        assert await line.is_closed()


@pytest.mark.usefixtures("short_heads")
async def test_h45_a_connection_that_is_kept_alive_may_rest_for_longer_than_a_head() -> None:
    async with listener() as port, wire(port) as line:
        for _ in range(2):
            assert await asks(line) == 200
            await asyncio.sleep(HEAD * 1.5)
        assert await asks(line) == 200


@pytest.mark.usefixtures("short_heads")
async def test_h89_a_slow_answer_is_no_slow_head() -> None:
    async with listener() as port, wire(port) as line:
        await line.send(HANGING)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(HEAD * 2):
                await line.is_closed()


async def test_h89_where_there_is_no_room_the_silent_go_first_and_the_busy_last() -> None:
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(5):
        port = await stack.enter_async_context(listener(room=3))
        busy, kept, silent = [await stack.enter_async_context(wire(port)) for _ in range(3)]
        await busy.send(HANGING)
        assert await asks(kept) == 200
        fourth = await stack.enter_async_context(wire(port))
        assert await silent.is_closed()
        assert await asks(fourth) == 200
        fifth = await stack.enter_async_context(wire(port))
        assert await kept.is_closed(), "the oldest that rests"
        await fifth.send(HANGING)
        await fourth.send(HANGING)
        await asyncio.sleep(0.05)
        sixth = await stack.enter_async_context(wire(port))
        assert await sixth.is_closed(), "all others are busy"


async def test_h89_a_flood_does_not_keep_a_client_from_its_answer() -> None:
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(10):
        port = await stack.enter_async_context(listener(room=10))
        for _ in range(100):
            await stack.enter_async_context(wire(port))
        assert await asks(await stack.enter_async_context(wire(port))) == 200


BIG = request("GET", "/big")


async def test_h89_an_answer_that_nobody_takes_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STUCK", 0.1)
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(5):
        port = await stack.enter_async_context(listener(room=2))
        for _ in range(2):
            line = await stack.enter_async_context(wire(port))
            await line.send(BIG)
        while not await is_let_in(port):
            await asyncio.sleep(0.05)


async def is_let_in(port: int) -> bool:
    """Whether another client is answered; where there is no room its connection is closed at once."""
    async with wire(port) as line:
        try:
            return await asks(line) == 200
        except (ConnectionError, asyncio.IncompleteReadError):
            return False


async def test_h89_nothing_is_logged_of_a_client_that_finds_no_room(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever knocks at a full door could fill the log else."""
    async with listener(room=1) as port, wire(port) as line, asyncio.timeout(5):
        await line.send(HANGING)
        await asyncio.sleep(0.05)
        assert not await is_let_in(port)
    gc.collect()
    assert not caplog.records


class _Nobody(asyncio.Transport):
    """The other end of a connection that does nothing."""

    closed = False

    def get_extra_info(self, _name: str, default: object = None) -> object:
        return default

    def close(self) -> None:
        self.closed = True

    abort = close


async def test_h89_where_all_places_are_taken_another_client_costs_no_look_at_each() -> None:
    """Ten thousand that rest between two requests; each new one takes the place of one of them."""
    server = EdgeServer(answer, room=10_000)
    held = []
    for _ in range(10_000):
        held.append(server())
        held[-1].connection_made(_Nobody())
    await asyncio.sleep(0)
    for one in held:
        one.data_received(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
    took = []
    for _ in range(100):
        began = time.perf_counter()
        server().connection_made(_Nobody())
        took.append(time.perf_counter() - began)
    assert statistics.median(took) < 0.001
    for one in server.connections:
        server.connection_lost(one)


@pytest.mark.parametrize(("size", "number", "rests"), [(1, 200_000, True), (240, 20_000, False)])
async def test_h88_a_body_in_tiny_pieces_is_read_with_pauses(size: int, number: int, rests: bool) -> None:
    """Two clients that sent chunks of a byte as fast as they could took all of the loop; of 240 bytes it is usual."""
    piece = chunked(b"x" * size).removesuffix(b"0\r\n\r\n")
    sent = request("PUT", "/body", [("Transfer-Encoding", "chunked")]) + piece * number
    server = EdgeServer(answer)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    rested = False
    async with (
        listening(runner) as port,
        wire(port) as line,
    ):
        sending = asyncio.create_task(line.send(sent + b"0\r\n\r\n"))
        answered = asyncio.create_task(line.answer())
        async with asyncio.timeout(20):
            while not answered.done():
                rested = rested or any(isinstance(one, Connection) and one.is_resting for one in server.connections)
                await asyncio.sleep(0.001)
        await sending
        assert (await answered).status == 200
    assert rested == rests
