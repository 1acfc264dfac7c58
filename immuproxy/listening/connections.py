"""The connections of one listener: how many, how long one may be silent, and what is said to what is no HTTP.

aiohttp bounds neither their number nor, with its usual settings, how long a head may take; and its answer to a broken
head quotes it.  What is private of the library here is pinned by `tests/listening` and `tests/test_listeners.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from immuproxy.listening import broken
from immuproxy.listening.files import MOST
from immuproxy.values import plain_address

log = structlog.get_logger("immuproxy")

HEAD = 30.0
"""Seconds that a head may take, the first from the connection on."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Connection(RequestHandler):
    """One connection; a subclass says in which form its client is told what is wrong."""

    listener = ""
    _late: asyncio.TimerHandle | None = None

    def problem(self, status: int, message: str) -> web.StreamResponse:
        """The answer to a request that nobody handled."""
        raise NotImplementedError

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request, or for the rest of a head."""
        waits = self._request_count == 0 if self._waiter is None else not self._waiter.done()
        return waits and not self._force_close

    @property
    def has_asked(self) -> bool:
        """Whether a whole head ever came."""
        return self._request_count > 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is here; its first head has to come in time."""
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client.

        The library tells a body that breaks off into nonsense to the request after it only; whoever reads the body
        would wait for ever.
        """
        asked = self._current_request
        super().data_received(data)
        if data:
            self._watch_head()
        if asked is None or asked.content.is_eof() or not self._messages:
            return
        if not isinstance(self._messages[-1][0], RawRequestMessage):
            asked.content.set_exception(web.RequestPayloadError("the body is broken"))

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client hung up, or was cut off."""
        super().connection_lost(exc)
        self._stop_watching()

    def _watch_head(self) -> None:
        if not self.is_idle:
            self._stop_watching()
        elif self._late is None:
            self._late = self._loop.call_later(HEAD, self._end_if_idle)

    def _stop_watching(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _end_if_idle(self) -> None:
        self._late = None
        if self.is_idle:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # it quotes the head (H84)
    ) -> web.StreamResponse:
        """A request that could not be parsed, or a fault of our own; the connection is closed after it."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is already on its way")
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self.log_exception("Error handling request", exc_info=exc)
            response = self.problem(status, "the proxy failed while handling this request; its log says why")
        else:
            said = f"the request is no valid HTTP: {broken.reason(exc)}"
            client = plain_address(request.remote or "")
            log.info("request refused", listener=self.listener, reason=said, status=status, client=client)
            response = self.problem(status, said)
        response.force_close()
        return response


class Connections(web.Server):
    """Makes a `Connection` for each client, and keeps no more than there is room for."""

    connection: type[Connection] = Connection

    def __init__(self, handler: Handler, *, room: int = MOST, **options: Any) -> None:
        """``room``: how many; ``options`` are those of aiohttp's server."""
        super().__init__(handler, **options)
        self._room = room

    def __call__(self) -> RequestHandler:
        """One connection."""
        return self.connection(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Another client; where there is no room, whoever keeps a place without need goes (H89)."""
        super().connection_made(handler, transport)
        if len(self._connections) > self._room:
            self._least_needed(handler).force_close()

    def _least_needed(self, newest: RequestHandler) -> RequestHandler:
        """The oldest that never asked for anything, else the oldest that asks for nothing now, else the newest."""
        idle = [one for one in self._connections if isinstance(one, Connection) and one.is_idle and one is not newest]
        return next((one for one in idle if not one.has_asked), idle[0] if idle else newest)
