"""Both listeners, opened: with their certificates, and room for their share of connections; decides nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from immuproxy.console.server import ConsoleRunner
from immuproxy.console.settings import ConsoleSettings
from immuproxy.edge.server import EdgeServer, UnsafeParserError
from immuproxy.edge.settings import EdgeSettings
from immuproxy.listening import files
from immuproxy.listening.accepting import accepting
from immuproxy.listening.certificates import CertificateError, Certificates, Expires, unheard
from immuproxy.listening.connections import Handler
from immuproxy.service.config import Config
from immuproxy.service.connections import CannotOpenError
from immuproxy.values.listen import Listen
from immuproxy.values.sections import TlsSettings


@dataclass(frozen=True, slots=True)
class Tls:
    """The certificates of both, each None where a listener speaks plain HTTP."""

    edge: Certificates | None
    console: Certificates | None

    @classmethod
    async def read(cls, config: Config, expires: Expires = unheard) -> Tls:
        """Read all files; ``expires`` is told of each listener when its certificate ends.  Raises `CannotOpenError`."""
        return cls(await _read("edge", config.edge.tls, expires), await _read("console", config.console.tls, expires))

    def use(self, config: Config) -> None:
        """Other files from the next look on; whether a listener has TLS at all is decided at the start."""
        for held, chosen in ((self.edge, config.edge.tls), (self.console, config.console.tls)):
            if held and chosen:
                held.files = chosen

    async def look(self) -> None:
        """Read again what changed."""
        for held in (self.edge, self.console):
            if held:
                await held.look()


async def _read(listener: str, chosen: TlsSettings | None, expires: Expires) -> Certificates | None:
    try:
        return await Certificates.read(listener, chosen, expires) if chosen else None
    except CertificateError as error:
        raise CannotOpenError(str(error)) from error


@asynccontextmanager
async def open_edge(
    chosen: EdgeSettings, certificates: Certificates | None, handler: Handler, *, patience: float
) -> AsyncIterator[tuple[str, int]]:
    """The edge; gives the address that it got.  ``patience``: seconds for requests under way at the end.

    Raises `CannotOpenError`.
    """
    try:
        server = EdgeServer(handler, room=files.room(files.FOR_EDGE))
    except UnsafeParserError as error:
        raise CannotOpenError(str(error)) from error
    runner = web.ServerRunner(server, shutdown_timeout=patience)
    async with _listening(runner, chosen.listen, "edge", certificates, files.FOR_EDGE) as address:
        yield address


@asynccontextmanager
async def open_console(
    chosen: ConsoleSettings, certificates: Certificates | None, app: web.Application
) -> AsyncIterator[tuple[str, int]]:
    """The console; gives the address that it got.  Raises `CannotOpenError`."""
    runner = ConsoleRunner(app, room=files.room(files.FOR_CONSOLE))
    async with _listening(runner, chosen.listen, "console", certificates, files.FOR_CONSOLE) as address:
        yield address


@asynccontextmanager
async def _listening(
    runner: web.BaseRunner, listen: Listen, name: str, certificates: Certificates | None, share: float
) -> AsyncIterator[tuple[str, int]]:
    """``share``: of all files, for connections; handshakes may take a quarter of that beside them."""
    opening = accepting(runner, listen, name, tls=certificates or _plain, handshakes=files.room(share / 4))
    async with AsyncExitStack() as stack:
        try:
            port = await stack.enter_async_context(opening)
        except OSError as error:
            message = f"{name}.listen: cannot listen on {listen}: {error.strerror or error}"
            raise CannotOpenError(message) from error
        yield listen.host, port


def _plain() -> None:
    """No TLS."""
