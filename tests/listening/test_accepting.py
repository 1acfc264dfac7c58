"""Connections are taken one at a time, also where files run out, and handshakes are bounded (H89)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from immuproxy.edge.answers import Response
from immuproxy.edge.server import EdgeServer
from immuproxy.listening import accepting as accepting_module
from immuproxy.listening import connections
from immuproxy.listening.accepting import accepting, bound
from immuproxy.listening.certificates import Certificates
from immuproxy.values.listen import Listen
from tests.listening.test_certificates import AUTHORITY, files, issue, write_pair
from tests.support.listening import listening, plain
from tests.support.wire import ask, request, wire


async def answer(_: web.BaseRequest) -> web.StreamResponse:
    return Response(headers={"Content-Length": "0"})


@contextlib.asynccontextmanager
async def listener(tls: accepting_module.Tls, handshakes: int = 3, host: str = "127.0.0.1") -> AsyncIterator[int]:
    runner = web.ServerRunner(EdgeServer(answer), shutdown_timeout=0.1)
    async with listening(runner, tls=tls, handshakes=handshakes, host=host) as port:
        yield port


async def test_h89_where_files_run_out_it_is_said_once_and_goes_on_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real files are used up in `tests/service/test_listeners.py`; here a process goes on that has none at all."""
    true, left = socket.socket.accept, [20]

    def accept(sock: socket.socket) -> tuple[socket.socket, object]:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return true(sock)

    monkeypatch.setattr(socket.socket, "accept", accept)
    monkeypatch.setattr(accepting_module, "PAUSE", 0.001)
    with capture_logs() as logs:
        async with listener(lambda: None) as port:
            assert (await ask(port, request("GET", "/v2/"))).status == 200
    assert [entry["event"] for entry in logs] == ["no new connection can be taken; raise the limit of open files"]


async def test_h89_a_handshake_that_never_begins_makes_room_for_another(tmp_path: Path) -> None:
    write_pair(tmp_path, issue())
    trusted = ssl.create_default_context()
    AUTHORITY.configure_trust(trusted)
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(10):
        port = await stack.enter_async_context(listener(await Certificates.read("edge", files(tmp_path)), handshakes=2))
        first, *_ = [await stack.enter_async_context(wire(port)) for _ in range(4)]
        assert await first.is_closed()
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted)
        writer.write(request("GET", "/v2/"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.transport.abort()


async def test_every_address_of_a_name_is_listened_on() -> None:
    async with listener(lambda: None, host="localhost") as port:
        assert (await ask(port, request("GET", "/v2/"))).status == 200


async def test_a_taken_port_is_an_error_and_leaves_nothing_open() -> None:
    runner = web.ServerRunner(EdgeServer(answer))
    (first,) = bound(Listen("127.0.0.1", 0))
    (second,) = bound(Listen("127.0.0.1", first.getsockname()[1]))  # nobody listens yet
    with first:
        first.listen()
        with pytest.raises(OSError, match="in use"):
            bound(Listen("127.0.0.1", first.getsockname()[1]))
        with pytest.raises(OSError, match="in use"):
            async with accepting(runner, [second], "edge", tls=plain, handshakes=1):
                pass
    assert runner.server is None
    assert second.fileno() == -1


async def test_h89_many_who_come_at_the_same_moment_are_all_served() -> None:
    """They are in the system's queue before the first is taken; no handshake is needed, so none is given up."""
    asked = request("GET", "/v2/")
    with contextlib.ExitStack() as stack:
        async with listener(lambda: None, handshakes=2) as port:
            came = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(50)]
            for client in came:
                client.sendall(asked)
                client.setblocking(False)
            async with asyncio.timeout(5):
                for client in came:
                    assert (await asyncio.get_running_loop().sock_recv(client, 12)) == b"HTTP/1.1 200"


async def test_h143_who_was_taken_just_before_the_end_is_heard() -> None:
    async with contextlib.AsyncExitStack() as stack:
        ending = contextlib.AsyncExitStack()
        port = await ending.enter_async_context(listener(lambda: None))
        line = await stack.enter_async_context(wire(port))
        await asyncio.sleep(0.05)  # it is taken by now, and nothing tells that
        ended = asyncio.create_task(ending.aclose())
        await asyncio.sleep(0.05)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await line.send(request("GET", "/v2/"))
        assert (await line.answer()).status == 200
        await ended


async def test_who_never_asks_does_not_keep_it_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNHEARD", 0.2)
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(5):
        async with listener(lambda: None) as port:
            line = await stack.enter_async_context(wire(port))
            await asyncio.sleep(0.05)
        assert await line.is_closed()


async def test_h89_a_client_that_takes_nothing_of_its_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting_module, "UNTAKEN", 0.3)
    ended = asyncio.Event()

    async def unread(asked: web.BaseRequest) -> web.StreamResponse:
        response = Response(headers={"Content-Length": "100000000"})
        await response.prepare(asked)
        try:
            while True:
                await response.write(bytes(100_000))
        except ConnectionError:
            ended.set()
            raise

    runner = web.ServerRunner(EdgeServer(unread), shutdown_timeout=0.1)
    async with listening(runner) as port:
        with socket.create_connection(("127.0.0.1", port)) as client, contextlib.suppress(TimeoutError):
            client.sendall(request("GET", "/v2/"))
            async with asyncio.timeout(8):
                await ended.wait()
    assert ended.is_set()
