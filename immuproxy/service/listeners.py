"""Both listeners: their sockets, their certificates, and room for their share of connections; decides nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from immuproxy.console.server import ConsoleRunner
from immuproxy.edge.server import EdgeServer, UnsafeParserError
from immuproxy.listening import files
from immuproxy.listening.accepting import accepting, bound
from immuproxy.listening.certificates import CertificateError, Certificates, Expires, unheard
from immuproxy.listening.connections import Handler
from immuproxy.service.config import Config
from immuproxy.service.connections import CannotOpenError
from immuproxy.values.listen import Listen
from immuproxy.values.sections import TlsSettings

EDGE, CONSOLE = "edge", "console"

_FIRST_GIVEN = 3
"""The descriptor of the first socket that systemd hands over (sd_listen_fds(3))."""


@dataclass(frozen=True, slots=True)
class Sockets:
    """What is listened on, opened before any process needs it and shared by all that take connections there.

    ``edge_at`` and ``console_at`` are their addresses.
    """

    edge: Sequence[socket.socket]
    console: Sequence[socket.socket]
    edge_at: Listen
    console_at: Listen

    @classmethod
    def open(cls, config: Config) -> Sockets:
        """Those that systemd hands over, and the addresses of ``config`` for a listener that it does not name.

        Raises `CannotOpenError`.
        """
        given = _given()
        edge = given[EDGE] or _bound(EDGE, config.edge.listen)
        console = given[CONSOLE] or _bound(CONSOLE, config.console.listen)
        return cls(edge, console, _address(edge), _address(console))

    def close(self, *names: str) -> None:
        """Have those listeners open no longer in this process."""
        for sock in (*(self.edge if EDGE in names else ()), *(self.console if CONSOLE in names else ())):
            sock.close()


def _address(sockets: Sequence[socket.socket]) -> Listen:
    host, port, *_ = sockets[0].getsockname()
    return Listen(host, port)


def _given() -> Mapping[str, Sequence[socket.socket]]:
    """The sockets that systemd has opened for this process; they outlive it, so a restart refuses nobody."""
    given: dict[str, list[socket.socket]] = {EDGE: [], CONSOLE: []}
    for descriptor, name in _named():
        if name not in given:
            raise CannotOpenError(f"systemd hands over a socket {name!r}; FileDescriptorName= is to be edge or console")
        sock = socket.socket(fileno=descriptor)
        if sock.family not in {socket.AF_INET, socket.AF_INET6} or sock.type != socket.SOCK_STREAM:
            raise CannotOpenError(f"systemd hands over a socket for {name} that is no TCP socket")
        sock.set_inheritable(False)
        sock.setblocking(False)
        given[name].append(sock)
    return given


def _named() -> Iterator[tuple[int, str]]:
    process, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if process == str(os.getpid()) and count.isdecimal():
        yield from zip(range(_FIRST_GIVEN, _FIRST_GIVEN + int(count)), [*names, *[""] * int(count)], strict=False)


def _bound(name: str, listen: Listen) -> Sequence[socket.socket]:
    try:
        return bound(listen)
    except OSError as error:
        raise _cannot_listen(name, listen, error) from error


def _cannot_listen(name: str, listen: Listen, error: OSError) -> CannotOpenError:
    return CannotOpenError(f"{name}.listen: cannot listen on {listen}: {error.strerror or error}")


class Tls:
    """The certificates of the listeners that have TLS."""

    def __init__(self, held: Mapping[str, Certificates]) -> None:
        """``held``: by the name of the listener."""
        self._held = held

    @classmethod
    async def read(cls, started: Config, latest: Config, names: Sequence[str], expires: Expires = unheard) -> Tls:
        """Read the files of the listeners ``names``; ``expires`` is told of each when its certificate ends.

        Whether a listener has TLS at all is decided by ``started``, and which files it has by ``latest``.  Raises
        `CannotOpenError`.
        """
        held = {}
        for name in names:
            chosen = _files(started, name) and (_files(latest, name) or _files(started, name))
            if chosen:
                held[name] = await _read(name, chosen, expires)
        return cls(held)

    def of(self, name: str) -> Certificates | None:
        """Those of a listener; None where it speaks plain HTTP."""
        return self._held.get(name)

    def use(self, config: Config) -> None:
        """Other files from the next look on."""
        for name, held in self._held.items():
            held.files = _files(config, name) or held.files

    async def look(self) -> None:
        """Read again what changed."""
        for held in self._held.values():
            await held.look()


def _files(config: Config, name: str) -> TlsSettings | None:
    return config.edge.tls if name == EDGE else config.console.tls


async def _read(listener: str, chosen: TlsSettings, expires: Expires) -> Certificates:
    try:
        return await Certificates.read(listener, chosen, expires)
    except CertificateError as error:
        raise CannotOpenError(str(error)) from error


@asynccontextmanager
async def open_edge(
    sockets: Sequence[socket.socket], tls: Tls, handler: Handler, *, patience: float
) -> AsyncIterator[None]:
    """The edge; ``patience``: seconds for requests under way at the end.  Raises `CannotOpenError`."""
    try:
        server = EdgeServer(handler, room=files.room(files.FOR_EDGE))
    except UnsafeParserError as error:
        raise CannotOpenError(str(error)) from error
    runner = web.ServerRunner(server, shutdown_timeout=patience)
    async with _listening(runner, sockets, EDGE, tls, files.FOR_EDGE):
        yield


@asynccontextmanager
async def open_console(sockets: Sequence[socket.socket], tls: Tls, app: web.Application) -> AsyncIterator[None]:
    """The console.  Raises `CannotOpenError`."""
    runner = ConsoleRunner(app, room=files.room(files.FOR_CONSOLE))
    async with _listening(runner, sockets, CONSOLE, tls, files.FOR_CONSOLE):
        yield


@asynccontextmanager
async def _listening(
    runner: web.BaseRunner, sockets: Sequence[socket.socket], name: str, tls: Tls, share: float
) -> AsyncIterator[None]:
    """``share``: of all files, for connections; handshakes may take a quarter of that beside them."""
    address = _address(sockets)
    opening = accepting(runner, sockets, name, tls=tls.of(name) or _plain, handshakes=files.room(share / 4))
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(opening)
        except OSError as error:
            raise _cannot_listen(name, address, error) from error
        yield


def _plain() -> None:
    """No TLS."""
