"""What went wrong on the way to the upstream, in words that may reach a client.  Pure.

The client library's own words name addresses and URLs of the inside, which would show clients a way round the proxy
(H49, H57); they go to the log only.
"""

from __future__ import annotations

import aiohttp
from aiohttp import http_exceptions as http


def reason(error: BaseException) -> str:
    """A few words on an error of the upstream's connection."""
    for kinds, words in _WORDS:
        if isinstance(error, kinds):
            return words
    return "the exchange failed"


def detail(error: BaseException) -> str:
    """The same for the log, with the library's own words; but not where these quote what came over the line (H84)."""
    return f"{type(error).__name__}: {reason(error) if isinstance(error, _QUOTING) else error}"


_QUOTING = (
    aiohttp.ClientResponseError,
    aiohttp.ClientPayloadError,
    aiohttp.ServerDisconnectedError,
    http.HttpProcessingError,
)

_WORDS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (TimeoutError, "it took too long"),
    (aiohttp.ClientSSLError, "no secure connection to it"),
    (aiohttp.ClientConnectorError, "no connection to it"),
    (aiohttp.ClientPayloadError, "its answer was cut short"),
    (aiohttp.ClientResponseError, "its answer is no valid HTTP"),
    ((aiohttp.ClientConnectionError, OSError), "the connection broke"),
)
