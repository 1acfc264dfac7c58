"""Request bodies: asked for when wanted, bounded in time and size, and put away when nobody wanted them.

A client that waits for ``100 Continue`` is asked only when the body is about to be read, so that a refusal needs no
body (H41).  An answer that comes before the end of the body closes the connection, and the rest of the body is thrown
away for a while: to close at once would reset the connection, and the client would see that instead of the answer
(H48).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

from aiohttp import HttpVersion11, web

from immuproxy.oci import errors
from immuproxy.oci.errors import OciError

IDLE = 300.0
"""Seconds without a byte after which a body is given up."""

WHOLE = 120.0
"""Seconds that a body which is read whole may take."""

PATIENCE = 15.0
LEAST = 16 * 1024
"""Such a body is given up after so many seconds, counted anew with each byte at the rate of so many in a second, but
never from further on than its last byte: whoever stalls keeps its room no longer than that (H87).
"""

SMALL = 256 * 1024
"""Bytes that are rather read and thrown away than paid for with a new connection."""

ROOM = 256 * 1024 * 1024
"""Bytes of bodies that are kept whole at a time; a manifest of the usual size takes a hundred-thousandth of it."""

KEPT = 8
FIRST = 64 * 1024
"""Of each so many bytes of the room one is for nothing but the first so many of each body: large ones leave room for
small ones (H87).
"""

LINGER = 30.0
LINGER_IDLE = 5.0
"""Seconds that the rest of an unwanted body is thrown away, altogether and without a byte."""

_INVITED = web.RequestKey("invited", bool)
_MOVED = web.RequestKey("moved", float)
"""The loop's time at which a transfer last moved; infinite while none is under way."""


def moved(request: web.BaseRequest) -> None:
    """Something of the request's body, or of a streamed answer, has just moved, or is about to."""
    request[_MOVED] = asyncio.get_running_loop().time()


def rests(request: web.BaseRequest) -> None:
    """No transfer is under way: whatever takes long now is not the client's doing."""
    request[_MOVED] = math.inf


def is_stalled(request: web.BaseRequest, seconds: float) -> bool:
    """Whether a transfer is under way and has not moved for that long."""
    last: float = request.get(_MOVED, math.inf)
    return asyncio.get_running_loop().time() - last > seconds


def check_expectation(request: web.BaseRequest) -> None:
    """Only ``100-continue`` can be expected (RFC 9110 section 10.1.1); raises `OciError` 417."""
    if request.headers.get("Expect", "100-continue").lower() != "100-continue":
        raise OciError(417, "UNSUPPORTED", "only Expect: 100-continue is supported")


def is_expected(request: web.BaseRequest) -> bool:
    """Whether the request has a body, be it empty and chunked."""
    return request.can_read_body or request.headers.get("Content-Length", "0") != "0"


async def invite(request: web.BaseRequest) -> None:
    """Ask for the body where the client waits for that; once."""
    if _is_uninvited(request) and _is_left(request):
        request[_INVITED] = True
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


async def chunks(request: web.BaseRequest) -> AsyncIterator[bytes]:
    """The raw body as it comes in; raises `OciError` when it is broken or stops coming.

    A generator is used up by the first send, so that the client library cannot send it a second time (H43).
    """
    await invite(request)
    try:
        while True:
            moved(request)
            async with asyncio.timeout(IDLE):
                chunk = await request.content.readany()
            if not chunk:
                return
            yield chunk
    except TimeoutError as error:
        raise errors.too_slow("the request's body stopped coming") from error
    except web.RequestPayloadError as error:
        raise errors.bad_body("the request's body is broken") from error
    finally:
        rests(request)


class Room:
    """The memory for bodies that are read whole, of all requests together (H51).

    Taken as bytes come in, so that who only announces a body takes none.
    """

    def __init__(self, size: int = ROOM) -> None:
        """``size`` in bytes."""
        self._kept = size // KEPT
        self._left = size - self._kept

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """One request's share: call it with a number of bytes before they are kept; raises `OciError` 503."""
        taken = first = 0

        def take(size: int) -> None:
            nonlocal taken, first
            small = min(size, FIRST - first, self._kept)
            if size - small > self._left:
                raise errors.unavailable("too many large manifests are on their way at once; try again")
            self._kept -= small
            self._left -= size - small
            first += small
            taken += size - small

        try:
            yield take
        finally:
            self._left += taken
            self._kept += first


async def read_whole(request: web.BaseRequest, limit: int, take: Callable[[int], None]) -> bytes:
    """The whole raw body; ``take`` is a `Room.share`.

    Raises `OciError`: 413 over ``limit`` bytes, 408 when it takes longer than `WHOLE` or is slower than `LEAST`, 503
    when there is no room.
    """
    check_length(request, limit)
    body, clock = bytearray(), asyncio.get_running_loop().time
    ends = clock() + WHOLE
    due = min(ends, clock() + PATIENCE)
    try:
        async with asyncio.timeout_at(due) as patience:
            async for chunk in chunks(request):
                take(len(chunk))
                body += chunk
                if len(body) > limit:
                    raise errors.too_large(limit)
                due = min(ends, clock() + PATIENCE, due + len(chunk) / LEAST)
                patience.reschedule(due)
    except TimeoutError as error:
        raise errors.too_slow("the request's body took too long") from error
    return bytes(body)


def check_length(request: web.BaseRequest, limit: int) -> None:
    """Refuse a body that says itself that it is too large (H18)."""
    if request.content_length is not None and request.content_length > limit:
        raise errors.too_large(limit)


def settle(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Before an answer starts: the connection ends with it where too much of the body is still to come."""
    if _is_left(request) and (_is_uninvited(request) or (request.content_length or SMALL + 1) > SMALL):
        response.force_close()


async def finish(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """After an answer: take the rest of the body off the line."""
    if not _is_left(request):
        return
    transport = request.transport
    if transport and not response.keep_alive and transport.can_write_eof():
        transport.write_eof()
    try:
        async with asyncio.timeout(LINGER):
            while _is_left(request):
                async with asyncio.timeout(LINGER_IDLE):
                    await request.content.readany()
    except (TimeoutError, OSError, web.RequestPayloadError):
        response.force_close()


def _is_uninvited(request: web.BaseRequest) -> bool:
    """Whether the client still waits to be asked; HTTP/1.0 knows no such thing."""
    waits = "Expect" in request.headers and request.version >= HttpVersion11
    return waits and not request.get(_INVITED, False)


def _is_left(request: web.BaseRequest) -> bool:
    return request.transport is not None and not request.content.is_eof()
