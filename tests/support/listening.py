"""A listener of the proxy on a free port, without a service around it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from immuproxy.listening.accepting import Tls, accepting, bound
from immuproxy.values.listen import Listen


def plain() -> None:
    """No TLS."""


@asynccontextmanager
async def listening(
    runner: web.BaseRunner, *, tls: Tls = plain, handshakes: int = 1, host: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """`accepting`, and the port."""
    sockets = bound(Listen(host, 0))
    async with accepting(runner, sockets, "edge", tls=tls, handshakes=handshakes):
        yield sockets[0].getsockname()[1]
