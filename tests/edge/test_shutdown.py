"""How the edge stops: it takes nothing new, ends what moves, and waits for nobody who stands still."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from immuproxy.edge import server
from tests.support.between import Request, between
from tests.support.conversation import Answer, RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer
from tests.support.wire import Exchange, request, scripted, wire

UPLOAD = "/v2/team/app/blobs/uploads/one"
MANIFEST = "/v2/team/app/manifests/1.0"
BLOB = f"/v2/team/app/blobs/sha256:{'0a' * 32}"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STALLED", 1.5)


class Stopping:
    """An edge that can be stopped while a test goes on."""

    def __init__(self, edge: RunningEdge, stack: contextlib.AsyncExitStack) -> None:
        self.edge = edge
        self._stack = stack

    async def stop(self) -> float:
        """Seconds that it took."""
        began = time.monotonic()
        await self._stack.aclose()
        return time.monotonic() - began


async def takes_connections(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    writer.close()
    return True


@contextlib.asynccontextmanager
async def stopping(upstream: str, redis: RedisServer) -> AsyncIterator[Stopping]:
    async with contextlib.AsyncExitStack() as stack:
        yield Stopping(await stack.enter_async_context(edge_over(upstream, redis.url)), stack)


async def endless(exchange: Exchange) -> None:
    if exchange.method == "GET":
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            await exchange.send(b"x" * 100_000)
    await exchange.answer(202)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(request("PATCH", UPLOAD, [("Content-Length", "20")]) + b"half", id="an upload"),
        pytest.param(
            request("PUT", "/v2/team/app/manifests/1.0", [("Content-Length", "20")]) + b"half", id="a manifest"
        ),
        pytest.param(request("GET", BLOB), id="a download that nobody reads"),
    ],
)
async def test_a_transfer_that_stands_still_is_not_waited_for(shared_redis: RedisServer, raw: bytes) -> None:
    async with (
        scripted(endless) as upstream,
        stopping(upstream.url, shared_redis) as stopped,
        wire(stopped.edge.port) as line,
    ):
        await line.send(raw)
        await asyncio.sleep(0.2)  # nothing tells that half of a manifest has come
        assert await stopped.stop() < 20


async def test_a_transfer_that_moves_is_waited_for(shared_redis: RedisServer) -> None:
    async def slow(exchange: Exchange) -> None:
        await exchange.answer(202)

    async with (
        scripted(slow) as upstream,
        stopping(upstream.url, shared_redis) as stopped,
        wire(stopped.edge.port) as line,
    ):
        await line.send(request("PATCH", UPLOAD, [("Content-Length", "12")]))
        await asyncio.sleep(0.1)
        stop = asyncio.create_task(stopped.stop())
        for _ in range(12):
            await asyncio.sleep(0.2)  # all together longer than what stands still may take
            await line.send(b"x")
        assert (await line.answer("PATCH")).status == 202
        assert await stop < 20


async def test_a_push_under_way_is_answered_and_nothing_new_is_taken(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    arrived, let_through = asyncio.Event(), asyncio.Event()

    async def hold_up(asked: Request) -> Answer | None:
        if asked.is_manifest_put:
            arrived.set()
            await let_through.wait()
        return await asked.forward()

    async with between(registry.url, hold_up) as middle, stopping(middle.url, redis_server) as stopped:
        pushed, edge = image("one"), stopped.edge
        await edge.direct.blobs("team/app", pushed)
        raw = request("PUT", MANIFEST, [("Content-Type", pushed.media_type)], pushed.body)
        async with wire(edge.port) as line:
            await line.send(raw)
            await arrived.wait()
            stop = asyncio.create_task(stopped.stop())
            async with asyncio.timeout(10):
                while await takes_connections(edge.port):
                    await asyncio.sleep(0.01)
            let_through.set()
            assert (await line.answer("PUT")).status == 201
        await stop
