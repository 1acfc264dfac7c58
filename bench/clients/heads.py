"""HEAD on some connections at once, a request after each answer.  wrk waits for the bodies that HEAD has not."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import cast
from urllib.parse import urlsplit

from bench.clients.load import Load


class _Line(asyncio.Protocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._transport: asyncio.WriteTransport | None = None
        self._head = b""
        self._asked = 0.0
        self.took: list[float] = []
        self.wrong = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._ask(self._transport)

    def data_received(self, data: bytes) -> None:
        self._head += data
        if not self._head.endswith(b"\r\n\r\n") or self._transport is None:
            return
        if not self._head.startswith(b"HTTP/1.1 200"):
            self.wrong = self._head
        self.took.append(time.perf_counter() - self._asked)
        self._head = b""
        self._ask(self._transport)

    def _ask(self, transport: asyncio.WriteTransport) -> None:
        self._asked = time.perf_counter()
        transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self.wrong = self.wrong or self._head or repr(exc).encode()

    def stop(self) -> bytes:
        """What went wrong until now, if anything did."""
        wrong = self.wrong
        if self._transport is not None:
            self._transport.abort()
        return wrong


def load(url: str, *, connections: int, seconds: float, accept: str) -> Load:
    """All were answered 200.

    :raises RuntimeError: with the first other answer.
    """
    return asyncio.run(_load(url, connections, seconds, accept))


async def _load(url: str, connections: int, seconds: float, accept: str) -> Load:
    place = urlsplit(url)
    request = f"HEAD {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nAccept: {accept}\r\n\r\n".encode()
    loop, host, port = asyncio.get_running_loop(), place.hostname or "", place.port or 80
    begun = time.perf_counter()
    made = [await loop.create_connection(lambda: _Line(request), host, port) for _ in range(connections)]
    await asyncio.sleep(seconds)
    took = time.perf_counter() - begun
    if wrong := b"".join([line.stop() for _, line in made]):
        raise RuntimeError(f"{url}: {wrong[:200]!r}")
    times = [each for _, line in made for each in line.took]
    return Load(len(times), took, statistics.median(times) * 1_000)
