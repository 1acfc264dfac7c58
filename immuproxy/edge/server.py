"""The edge's listener: aiohttp's low-level server, so that nothing between the socket and the handler reads the path.

No router, no decompression (H38), 64 KiB lines and headers (H42), and an OCI error even for what is no HTTP (H50).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import http, http_parser, web

from immuproxy.edge import answers, bodies
from immuproxy.edge.upstream import MAX_LINE, READ_BUFFER
from immuproxy.listening.connections import Connection, Connections, Handler
from immuproxy.oci.errors import OciError

log = structlog.get_logger("immuproxy.edge")

KEEPALIVE = 150.0
"""Seconds an idle client connection stays open; Go clients reuse theirs for 90 (H45)."""


STALLED = 5.0
"""Seconds without a byte after which a transfer is not waited for any more then."""


class UnsafeParserError(RuntimeError):
    """The parser of aiohttp that is in use reads some requests differently from the one that is tested (H50)."""


def require_c_parser() -> None:
    """Raise `UnsafeParserError` unless both listeners and clients use aiohttp's parser in C."""
    for parser in (http.HttpRequestParser, http_parser.HttpResponseParser):
        if parser.__module__ != "aiohttp._http_parser":
            raise UnsafeParserError(
                "aiohttp runs without its C extension, and its other parser is not safe enough for a proxy; "
                "install a wheel of aiohttp for this platform and unset AIOHTTP_NO_EXTENSIONS"
            )


class _Connection(Connection):
    """Answers a broken request as the specification would have it, and ends with its client what is for it alone."""

    listener = "edge"
    relaying: asyncio.Task[Any] | None = None
    """The task that nobody needs once the client is gone."""

    def data_received(self, data: bytes) -> None:
        """Bytes from the client.

        The library drops whatever comes once the server is to end, also the rest of the body that the last request is
        waiting for.
        """
        asked = self._current_request
        if self._close and asked is not None and not asked.content.is_eof():
            self._take_while_closing(data)
        else:
            super().data_received(data)

    def _take_while_closing(self, data: bytes) -> None:
        closing = self._close, self._force_close
        self._close = self._force_close = False
        try:
            super().data_received(data)
        finally:
            self._close, self._force_close = closing

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client hung up, or was cut off."""
        super().connection_lost(exc)
        if self.relaying is not None:
            self.relaying.cancel()

    def problem(self, status: int, message: str) -> web.StreamResponse:
        """An error of the specification."""
        code = "UNKNOWN" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "UNSUPPORTED"
        answer = answers.error(OciError(status, code, message))
        return answers.WholeResponse(status=status, body=answer.body, headers=answer.headers)


@contextmanager
def ending_with_client(request: web.BaseRequest) -> Iterator[None]:
    """What runs in here is broken off with `ConnectionResetError` when the client goes away (H47).

    Of a push only what it waits for before anything is sent: the rest comes to its end without a client.
    """
    protocol, task = request.protocol, asyncio.current_task()
    if not isinstance(protocol, _Connection) or task is None:
        raise TypeError("the request came in by another listener")
    if _is_gone(request):
        raise ConnectionResetError("the client went away")
    protocol.relaying = task
    try:
        yield
    except asyncio.CancelledError:
        if _is_gone(request) and task.uncancel() == 0:
            raise ConnectionResetError("the client went away") from None
        raise
    finally:
        protocol.relaying = None


def _is_gone(request: web.BaseRequest) -> bool:
    return request.transport is None


class EdgeServer(Connections):
    """The connections of the edge."""

    connection = _Connection

    def __init__(self, handler: Handler, **options: Any) -> None:
        """``handler`` answers every request.  Raises `UnsafeParserError`."""
        require_c_parser()
        super().__init__(
            handler,
            auto_decompress=False,
            lingering_time=0,  # `immuproxy.edge.bodies.finish` does it with more care
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            keepalive_timeout=KEEPALIVE,
            read_bufsize=READ_BUFFER,
            access_log=None,
            **options,
        )

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # the library's own argument
        """End every connection once its request has ended.

        A transfer that stands still is cut off soon, one that moves after ``timeout`` seconds.
        """
        cutting = asyncio.create_task(self._cut_transfers(timeout or 0.0))
        try:
            await super().shutdown(timeout)
        finally:
            cutting.cancel()

    async def _cut_transfers(self, grace: float) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + grace
        while True:
            longest = STALLED if clock() < until else 0.0
            for connection in self.connections:
                request = connection._current_request  # noqa: SLF001  # private; pinned by a test
                if request is not None and request.transport and bodies.is_stalled(request, longest):
                    log.info("a transfer is cut off, as the proxy stops", peer=request.remote)
                    request.transport.abort()
            await asyncio.sleep(STALLED / 10)
