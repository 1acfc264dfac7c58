"""Something that stands between the proxy and a real server, and can make it fail in ways of its own choosing.

`between(registry.url, act)` speaks HTTP: `act` sees each request, may let it through, and says what is answered.
`lossy(redis.port)` speaks bytes: it can cut the connection after a command was executed and before its reply arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from tests.support.conversation import Answer


@dataclass(frozen=True)
class Request:
    """One request on its way to the real server; `forward` sends it there, to another target where it is given one."""

    method: str
    target: str
    headers: CIMultiDict[str]
    body: bytes
    forward: Callable[..., Awaitable[Answer]]

    @property
    def is_manifest_put(self) -> bool:
        """A push of a manifest, not the question whether it may be pushed."""
        return self.method == "PUT" and "/manifests/" in self.target and bool(self.body)


Act = Callable[[Request], Awaitable[Answer | None]]
"""What becomes of a request; None closes the connection without an answer."""

NOT_COPIED = frozenset({"transfer-encoding", "connection", "content-length", "date"})


async def pass_on(request: Request) -> Answer:
    """Change nothing."""
    return await request.forward()


@dataclass
class Between:
    """`act` may be replaced at any time; `asked` is what came in, method and target."""

    url: str
    act: Act
    asked: list[tuple[str, str]] = field(default_factory=list)


@contextlib.asynccontextmanager
async def between(server_url: str, act: Act = pass_on) -> AsyncIterator[Between]:
    standing = Between("", act)
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            target, body = request.raw_path, await request.read()
            sent = CIMultiDict((k, v) for k, v in request.headers.items() if k.lower() not in NOT_COPIED)

            async def forward(to: str = target) -> Answer:
                async with session.request(
                    request.method,
                    URL(server_url + to, encoded=True),
                    headers=sent,
                    data=body or None,
                    allow_redirects=False,
                    skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
                ) as received:
                    return Answer(received.status, CIMultiDict(received.headers), await received.read())

            standing.asked.append((request.method, target))
            answer = await standing.act(Request(request.method, target, sent, body, forward))
            if answer is None:
                if request.transport is not None:  # else whoever asked has gone already
                    request.transport.abort()
                return web.Response()
            kept = CIMultiDict((k, v) for k, v in answer.headers.items() if k.lower() not in NOT_COPIED)
            response = web.Response(status=answer.status, headers=kept, body=answer.body)
            if request.method == "HEAD" and "Content-Length" in answer.headers:
                response.headers["Content-Length"] = answer.headers["Content-Length"]
            return response

        runner = web.ServerRunner(web.Server(handle))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        standing.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield standing
        finally:
            await runner.cleanup()


@dataclass
class Lossy:
    """Commands that hold the bytes `lose` are executed, and their connection ends instead of the reply.

    `times`: how many more.  `delay`: seconds by which every reply comes later.
    """

    server_port: int
    port: int = 0
    lose: bytes = b""
    times: int = 0
    delay: float = 0.0
    lost: int = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.server_port)
        cutting = asyncio.Event()
        tasks = [
            asyncio.create_task(self._there(reader, server_writer, cutting)),
            asyncio.create_task(self._back(server_reader, writer, cutting)),
        ]
        try:
            with contextlib.suppress(ConnectionError):
                await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            server_writer.close()
            writer.close()

    async def _there(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cutting: asyncio.Event) -> None:
        while data := await reader.read(1 << 20):
            if self.times and self.lose in data:
                self.times -= 1
                cutting.set()
            writer.write(data)
        writer.close()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cutting: asyncio.Event) -> None:
        while data := await reader.read(1 << 20):
            await asyncio.sleep(self.delay)
            if cutting.is_set():
                self.lost += 1
                writer.transport.abort()
                return
            writer.write(data)
        writer.close()


@contextlib.asynccontextmanager
async def lossy(port: int) -> AsyncIterator[Lossy]:
    """A relay in front of the server at `port` of 127.0.0.1."""
    relay = Lossy(port)
    running: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.add(asyncio.create_task(relay.carry(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
