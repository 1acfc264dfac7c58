"""Connections are taken from a socket here, one at a time.

Not by asyncio's own server: where files run out, that of Python 3.11 tries a hundred times at once, logs each with a
trace and begins again a hundred times a second later (H89).  And here each connection gets the certificate of its time.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress

from aiohttp import web

from immuproxy.listening.connections import HEAD, UNHEARD, Connections
from immuproxy.listening.files import EXHAUSTED, Shortage
from immuproxy.values.listen import Listen

BACKLOG = 1024
"""Connections that the system keeps until they are taken; the kernel may keep fewer."""

PAUSE = 0.1
"""Seconds until another try where files ran out."""

UNTAKEN = 300.0
"""Seconds in which a client takes not a byte of its answer, after which it is given up, as is one that sends none of
its body."""

Tls = Callable[[], ssl.SSLContext | None]
"""The context for a connection that begins now; None where the listener speaks plain HTTP."""


@asynccontextmanager
async def accepting(
    runner: web.BaseRunner, sockets: Sequence[socket.socket], name: str, *, tls: Tls, handshakes: int
) -> AsyncIterator[None]:
    """One listener on ``sockets`` (see `bound`), set up and cleaned up with its ``runner``.  Raises `OSError`.

    The sockets are closed at the end, as far as this process has them open.  ``handshakes``: how many TLS handshakes
    may be under way; beyond that the oldest is given up.
    """
    async with AsyncExitStack() as stack:
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        stack.push_async_callback(_newcomers_heard, runner)
        for sock in sockets:
            stack.enter_context(sock).listen(BACKLOG)
        acceptor = _Acceptor(runner, name, tls, handshakes)
        stack.push_async_callback(acceptor.end)
        acceptor.begin(sockets)
        yield


async def _newcomers_heard(runner: web.BaseRunner) -> None:
    """Who was taken just before the end is not turned away: its first request is on its way."""
    if isinstance(runner.server, Connections):
        await runner.server.newcomers_heard()


def bound(listen: Listen) -> list[socket.socket]:
    """A socket for each address of the host, which does not listen yet.  Raises `OSError`."""
    found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as stack:
        sockets = []
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sock = stack.enter_context(socket.socket(family, kind, protocol))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setblocking(False)
            sock.bind(address)
            sockets.append(sock)
        stack.pop_all()
    return sockets


def _end_where_nothing_is_taken(taken: socket.socket) -> None:
    """Have the kernel end it where the client takes not a byte of an answer for that long (RFC 5482; Linux only)."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None:
        taken.setsockopt(socket.IPPROTO_TCP, option, int(1000 * UNTAKEN))


class _Acceptor:
    def __init__(self, runner: web.BaseRunner, name: str, tls: Tls, handshakes: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._runner = runner
        self._tls = tls
        self._room = handshakes
        self._shortage = Shortage(name, self._loop.time)
        self._accepting: set[asyncio.Task[None]] = set()
        self._handshakes: dict[asyncio.Task[None], None] = {}

    def begin(self, sockets: Sequence[socket.socket]) -> None:
        """Take connections from all of them."""
        self._accepting = {self._loop.create_task(self._accept(sock)) for sock in sockets}

    async def end(self) -> None:
        """Take no more, and give up those that are not ready soon."""
        for task in self._accepting:
            task.cancel()
        if self._handshakes:
            await asyncio.wait(self._handshakes, timeout=UNHEARD)
        tasks = [*self._accepting, *self._handshakes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, sock: socket.socket) -> None:
        while True:
            try:
                taken, _ = await self._loop.sock_accept(sock)
            except ConnectionError:  # the client had gone before it was taken
                continue
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._shortage.met(error)
                await asyncio.sleep(PAUSE)
                continue
            self._hand_over(taken)
            await asyncio.sleep(0)  # where many wait, those who were taken are served before the next

    def _hand_over(self, taken: socket.socket) -> None:
        tls = self._tls()
        while tls and len(self._handshakes) >= self._room:
            oldest = next(iter(self._handshakes))
            del self._handshakes[oldest]
            oldest.cancel()
        task = self._loop.create_task(self._made(taken, tls))
        self._handshakes[task] = None
        task.add_done_callback(lambda done: self._handshakes.pop(done, None))

    async def _made(self, taken: socket.socket, tls: ssl.SSLContext | None) -> None:
        """The connection, ready to be read; without TLS at once."""
        server = self._runner.server
        if server is None:
            taken.close()
            return
        _end_where_nothing_is_taken(taken)
        limit = HEAD if tls else None
        with suppress(OSError):  # no TLS, or no more client: nobody is there who could be answered
            await self._loop.connect_accepted_socket(server, taken, ssl=tls, ssl_handshake_timeout=limit)
