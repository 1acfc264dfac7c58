"""The console's listener: aiohttp's, with bounds on connections and heads, and errors in the form of the API."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from immuproxy.console.answers import as_json
from immuproxy.console.problems import RequestProblem
from immuproxy.listening.connections import Connection, Connections
from immuproxy.listening.files import MOST

MAX_HEAD = 64 * 1024
"""Bytes of a request line or header field, as at the edge."""

KEEPALIVE = 75.0
"""Seconds an idle connection stays open; browsers and scrapers open another one when they need it."""


class _Connection(Connection):
    listener = "console"

    def problem(self, status: int, message: str) -> web.StreamResponse:
        """An error of the API: nobody knows what such a client reads."""
        code = "internal_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "bad_request"
        return as_json(RequestProblem(status, code, "", message).to_dict(), status)


class _ConsoleServer(Connections):
    connection = _Connection


class ConsoleRunner(web.AppRunner):
    """Sets up the application, and serves it on connections of our own."""

    def __init__(self, app: web.Application, *, room: int = MOST) -> None:
        """``room``: how many connections there may be."""
        super().__init__(
            app, access_log=None, max_line_size=MAX_HEAD, max_field_size=MAX_HEAD, keepalive_timeout=KEEPALIVE
        )
        self._room = room

    async def _make_server(self) -> web.Server:
        """The library's server of an application, but for its class (private; pinned by `tests.service`)."""
        made = await super()._make_server()
        options = made._kwargs  # noqa: SLF001
        return _ConsoleServer(made.request_handler, room=self._room, request_factory=made.request_factory, **options)
