"""HTTP byte by byte: a client that sends what it likes, and an upstream that answers from a script.

async with scripted(lambda exchange: exchange.answer(200, b"hello")) as upstream, served(...) as port:
    answer = await ask(port, b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
    assert upstream.requests[0].header("X-Forwarded-Host") == "x"
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from immuproxy.edge.server import EdgeServer
from immuproxy.oci.names import digest_of

Headers = list[tuple[str, str]]

LINE = 1_000_000
"""Bytes of a head that either side here takes."""


@dataclass
class WireAnswer:
    """One answer as it came over the wire; `interim` are the statuses before it, such as 100."""

    status: int
    reason: str
    headers: Headers
    body: bytes
    whole: bool = True
    interim: list[int] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        found = self.all(name)
        return ", ".join(found) if found else None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def error(self) -> dict[str, Any]:
        assert (self.header("Content-Type") or "").startswith("application/json"), self
        return dict(json.loads(self.body)["errors"][0])


class Wire:
    """One connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, method: str = "GET") -> WireAnswer:
        """The next answer; `whole` is False when the connection ended in the middle of it."""
        interim: list[int] = []
        while True:
            head = await self.reader.readuntil(b"\r\n\r\n")
            found = _head(head)
            if found.status < 200 and found.status != 101:
                interim.append(found.status)
                continue
            found.interim = interim
            found.body, found.whole = await _body(self.reader, found, method)
            return found

    async def is_closed(self) -> bool:
        """Whether the server ends the connection now, having sent nothing more."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True


def _head(raw: bytes) -> WireAnswer:
    first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    _, status, reason = first.split(" ", 2)
    return WireAnswer(int(status), reason, _headers(lines), b"")


def _headers(lines: Sequence[str]) -> Headers:
    return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]


async def _body(reader: asyncio.StreamReader, answer: WireAnswer, method: str) -> tuple[bytes, bool]:
    if method == "HEAD" or answer.status in {204, 304} or answer.status == 101:
        return b"", True
    try:
        if (answer.header("Transfer-Encoding") or "").lower() == "chunked":
            return await _chunked(reader)
        length = answer.header("Content-Length")
        if length is None:
            return await reader.read(), True
        return await reader.readexactly(int(length)), True
    except asyncio.IncompleteReadError as error:
        return error.partial, False
    except ConnectionError:
        return b"", False


async def _chunked(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    body = b""
    try:
        while True:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
            body += (await reader.readexactly(size + 2))[:-2]
            if size == 0:
                return body, True
    except (asyncio.IncompleteReadError, ConnectionError):
        return body, False


@contextlib.asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=LINE)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


async def ask(port: int, raw: bytes, *, method: str | None = None, seconds: float = 10.0) -> WireAnswer:
    """Send bytes on a connection of their own, and read one answer."""
    async with asyncio.timeout(seconds), wire(port) as line:
        await line.send(raw)
        return await line.answer(method or raw.split(b" ", 1)[0].decode("latin-1"))


def request(
    method: str,
    target: str,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes | None = None,
    host: str = "edge:5000",
) -> bytes:
    """The bytes of a request; `Content-Length` is added where there is a body and no other framing."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers)]
    framed = {name.lower() for name, _ in headers} & {"content-length", "transfer-encoding"}
    if body is not None and not framed:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "surrogateescape") + (body or b"")


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))


# --- the scripted upstream


@dataclass
class Exchange:
    """One request at the scripted upstream, and the means to answer it."""

    method: str
    target: str
    headers: Headers
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    body: bytes = b""
    body_is_whole: bool = False

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    async def read_body(self) -> bytes:
        """The body; what came of it is kept, whole or not."""
        if (self.header("Transfer-Encoding") or "").lower() == "chunked":
            self.body, self.body_is_whole = await _chunked(self.reader)
            return self.body
        try:
            self.body = await self.reader.readexactly(int(self.header("Content-Length") or 0))
            self.body_is_whole = True
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.body = getattr(error, "partial", b"")
        return self.body

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def answer(self, status: int, body: bytes | None = b"", headers: Sequence[tuple[str, str]] = ()) -> None:
        """Read the request's body, then answer; a body of None sends no Content-Length."""
        await self.read_body()
        lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers)]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        sent = b"" if self.method == "HEAD" else body or b""
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + sent)

    def hang_up(self) -> None:
        self.writer.close()


ASKS = f"/manifests/{digest_of(b'')}"
"""What the proxy asks for to learn whether somebody may push: an empty manifest."""

INVALID = b'{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid"}]}'
UNKNOWN = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'
"""How a registry says it."""

Script = Callable[[Exchange], Awaitable[None]]


@dataclass
class ScriptedUpstream:
    """What came in; `requests` without the proxy's own question whether somebody may push."""

    port: int = 0
    everything: list[Exchange] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[Exchange]:
        return [exchange for exchange in self.everything if ASKS not in exchange.target]


@contextlib.asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[ScriptedUpstream]:
    """An upstream that lets everybody push, and answers everything else by `script`."""
    upstream = ScriptedUpstream()
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await _serve(upstream, script, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # asyncio's streams complain about a connection whose task was cancelled
        finally:
            connections.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=LINE)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _serve(
    upstream: ScriptedUpstream, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while not writer.is_closing():
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        exchange = Exchange(method, target, _headers(lines), reader, writer)
        upstream.everything.append(exchange)
        if ASKS in target:
            await exchange.answer(400, INVALID)
        else:
            await script(exchange)


@contextlib.asynccontextmanager
async def served(handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> AsyncIterator[int]:
    """The edge's listener around a handler of the test's own; yields its port."""
    runner = web.ServerRunner(EdgeServer(handler), shutdown_timeout=0.2)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
