"""The edge's listener: aiohttp's low-level server, so that nothing between the socket and the handler reads the path.

No router, no decompression (H38), 64 KiB lines and headers (H42), and an OCI error even for what is no HTTP (H50).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from immuproxy.oci.errors import OciError
from immuproxy.proxy import answers
from immuproxy.proxy.upstream import MAX_LINE, READ_BUFFER

KEEPALIVE = 150.0
"""Seconds an idle client connection stays open; Go clients reuse theirs for 90 (H45)."""


class _Protocol(RequestHandler):
    """Answers a broken request as the specification would have it."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A request that could not be parsed, or a fault of our own; the connection is closed after it."""
        if status >= 500:
            self.log_exception("Error handling request", exc_info=exc)
            problem = OciError(status, "UNKNOWN", "the proxy failed while handling this request; its log says why")
        else:
            problem = OciError(status, "UNSUPPORTED", f"the request is no valid HTTP: {_one_line(message or str(exc))}")
        answer = answers.error(problem)
        response = web.Response(status=status, body=answer.body, headers=answer.headers)
        response.force_close()
        return response


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]


class EdgeServer(web.Server):
    """Makes one protocol for each connection."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], **options: Any) -> None:
        """``handler`` answers every request."""
        super().__init__(
            handler,
            auto_decompress=False,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            keepalive_timeout=KEEPALIVE,
            read_bufsize=READ_BUFFER,
            access_log=None,
            **options,
        )

    def __call__(self) -> RequestHandler:
        """One connection."""
        return _Protocol(self, loop=self._loop, **self._kwargs)
