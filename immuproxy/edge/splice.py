"""Bodies of a known length that the kernel moves from socket to socket, through a pipe, once the heads are read (H51).

For plain TCP on both sides, on Linux; all else is left to the relay: TLS, chunked and short bodies, and whatever the
system has no pipes or files for (H141).  A step takes from one socket what is there and gives it to the other, in a
callback of the loop; no byte is seen here, and none waits anywhere but in the kernel.

The client library does not know of bytes that pass it by, so what it counts is set right here (H139).  Only where the
kernel has taken exactly those bytes that were announced and that the library has not seen, the body counts as read, and
its connection gets a parser that stands before the next message.  A body that ends in any other way leaves a connection
that is never used again (H140).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import fcntl
import math
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial

import aiohttp
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpRequestParser, StreamWriter
from aiohttp.payload import AsyncIterablePayload
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDictProxy

from immuproxy.edge import bodies
from immuproxy.edge.upstream import MAX_LINE, READ_BUFFER
from immuproxy.listening import files
from immuproxy.oci import errors

LEAST = 512 * 1024
"""Bytes still to come from which on a body is handed over; fewer cost less by way of the relay, and more than what is
read only to keep a connection (`bodies.SMALL`).
"""

ROOM = 48 * 1024 * 1024
"""Bytes of pipes, of the 64 MiB that all processes of an unprivileged user have together."""

SIZES = (1024 * 1024, 512 * 1024, 256 * 1024, 128 * 1024, 64 * 1024)
SHARE = 32
"""Of the room that is left a pipe takes one in so many bytes at most, but the smallest may take the last."""

FILES = 0.1
FILES_EACH = 4
"""The share of all files that is for transfers, and how many each has besides its connections: the ends of the pipe,
and both sockets a second time, because the loop lets nobody else watch what a transport has.
"""

MARK = 256 * 1024
"""Bytes that have to be there before the kernel wakes us, as long as they come fast."""

LOOK = 0.25
"""Seconds between two looks at how it goes; where fewer bytes than `MARK` came in between, each one wakes us."""

_POSSIBLE = hasattr(os, "splice") and hasattr(fcntl, "F_SETPIPE_SZ") and hasattr(socket, "SO_RCVLOWAT")


class _End(enum.Enum):
    WHOLE = enum.auto()
    SOURCE_GONE = enum.auto()
    SOURCE_SILENT = enum.auto()
    TARGET_GONE = enum.auto()
    TARGET_STUCK = enum.auto()


async def answer(request: web.BaseRequest, upstream_response: aiohttp.ClientResponse) -> None:
    """Hand over the body of an answer whose head the client has been sent; at once where that cannot be.

    What is left in its ``content`` is for the relay.  Raises `aiohttp.ClientError` when the upstream breaks off or
    falls silent.
    """
    connection, writer = upstream_response.connection, request.writer
    if connection is None or connection.protocol is None or not isinstance(writer, StreamWriter):
        return
    upstream, content = connection.protocol, upstream_response.content
    length = _announced(upstream_response.headers)
    job = _Job(
        content,
        upstream,
        writer,
        length=length if length == writer.length else 0,
        over=partial(_answer_is_over, upstream, content),
        broken_off=upstream.force_close,
        moved=partial(bodies.moved, request),
        silence=upstream.read_timeout or math.inf,
    )
    match await _carried(job):
        case _End.SOURCE_GONE:
            raise aiohttp.ClientPayloadError("the body is shorter than announced")
        case _End.SOURCE_SILENT:
            raise aiohttp.SocketTimeoutError("the body stopped coming")
        case _End.TARGET_GONE:
            await _client_is_gone(request)


class Body(AsyncIterablePayload):
    """The body of a request, handed over when it is to be written, or else written piece by piece."""

    def __init__(self, request: web.BaseRequest, pieces: AsyncIterator[bytes], patience: float) -> None:
        """``pieces`` are the relay's; ``patience``: seconds for which the upstream may take nothing."""
        super().__init__(pieces)
        self._request = request
        self._patience = patience

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write it whole; raises `OciError` where the client stops sending, `OSError` where the upstream breaks off."""
        request, length = self._request, _announced(self._request.headers)
        if isinstance(writer, StreamWriter) and length >= LEAST:
            await bodies.invite(request)
            try:
                await self._hand_over(writer, length)
            finally:
                bodies.rests(request)
        await super().write_with_length(writer, content_length)

    async def _hand_over(self, writer: StreamWriter, length: int) -> None:
        request = self._request
        job = _Job(
            request.content,
            request.protocol,
            writer,
            length=length,
            over=partial(_request_is_over, request),
            broken_off=partial(_request_broke_off, request),
            moved=partial(bodies.moved, request),
            silence=bodies.IDLE,
            patience=self._patience,
        )
        match await _carried(job):
            case _End.SOURCE_GONE:
                await _client_is_gone(request)
            case _End.SOURCE_SILENT:
                raise errors.too_slow("the request's body stopped coming")
            case _End.TARGET_GONE:
                raise ConnectionResetError("the upstream takes no more")
            case _End.TARGET_STUCK:
                raise TimeoutError


@dataclass(frozen=True, slots=True)
class _Job:
    """A body of ``length`` bytes; 0 where that is not known.

    ``over`` is called with the source's socket when that has given all of it; ``broken_off`` in the end where it has
    not.  ``silence`` and ``patience``: seconds for which the source may give, and the target may take nothing.
    """

    content: StreamReader
    source: RequestHandler | ResponseHandler
    writer: StreamWriter
    length: int
    over: Callable[[socket.socket], None]
    broken_off: Callable[[], None]
    moved: Callable[[], None]
    silence: float
    patience: float = math.inf

    @property
    def left(self) -> int:
        """Bytes that the library's parser has not seen, unless it has put some aside."""
        return self.length - self.content.total_bytes

    @property
    def is_possible(self) -> bool:
        """Whether it can be handed over, as far as one can tell."""
        return (
            _POSSIBLE
            and self.left >= LEAST
            and not self.content.is_eof()
            and self.content.exception() is None
            and not self.writer.chunked
            and _is_plain(self.source.transport)
            and _is_plain(self.writer.transport)
        )


def _announced(headers: CIMultiDictProxy[str]) -> int:
    """The length that a head announces; 0 for none, and where anything makes it doubtful."""
    lengths = headers.getall("Content-Length", [])
    if len(lengths) != 1 or "Transfer-Encoding" in headers or "Upgrade" in headers:
        return 0
    return int(lengths[0]) if lengths[0].isascii() and lengths[0].isdigit() else 0


def _is_plain(transport: asyncio.Transport | None) -> bool:
    """Whether it is open, and TCP without TLS."""
    if transport is None or transport.is_closing() or transport.get_extra_info("sslcontext") is not None:
        return False
    sock = transport.get_extra_info("socket")
    return sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}


async def _carried(job: _Job) -> _End | None:
    """How it ended; None where nothing was handed over.  What the library had read is written in both cases."""
    if not job.is_possible:
        return None
    read = _taken_out(job.content)
    with contextlib.ExitStack() as stack:
        flow = _begun(job, stack)
        if flow is None:
            await _write(job.writer, read)
            return None
        try:
            return await _in_order(job, read, flow)
        finally:
            if not job.content.is_eof():
                job.broken_off()


def _taken_out(content: StreamReader) -> list[bytes]:
    """All that the library has read of it.  With each last piece its parser goes on with what it had put aside."""
    pieces = []
    while piece := content.read_nowait():
        pieces.append(piece)
    return pieces


def _begun(job: _Job, stack: contextlib.ExitStack) -> _Flow | None:
    """The flow with its first bytes; None where it cannot be, and then nothing has been taken."""
    if not job.is_possible or job.source._reading_paused:  # noqa: SLF001  # its parser has put something aside
        return None
    try:
        flow = _Flow(job, stack)
        return flow if flow.takes() else None
    except OSError:
        return None


async def _in_order(job: _Job, read: list[bytes], flow: _Flow) -> _End:
    """First what was read, then what is in the kernel."""
    job.source.pause_reading()
    flow.count_first()
    try:
        async with asyncio.timeout(job.patience if job.patience < math.inf else None):
            await _write(job.writer, read)
            await _flush(job.writer)
    except TimeoutError:
        return _End.TARGET_STUCK
    return await flow.run() if _is_plain(job.writer.transport) else _End.TARGET_GONE


async def _write(writer: StreamWriter, pieces: list[bytes]) -> None:
    for piece in pieces:
        await writer.write(piece)


async def _flush(writer: StreamWriter) -> None:
    """Wait until the kernel has all that was written, be it only a head."""
    writer.send_headers()
    if writer.transport is not None:
        transport = writer.transport
        transport.set_write_buffer_limits(0)
        try:
            await writer.drain()
        finally:
            transport.set_write_buffer_limits()


def _answer_is_over(upstream: ResponseHandler, content: StreamReader, source: socket.socket) -> None:
    """Give the connection back to its pool, but not where the upstream sends what nobody asked for, or has ended."""
    if _has_more(source):
        upstream.force_close()
    upstream.set_response_params(
        auto_decompress=False, read_bufsize=READ_BUFFER, max_line_size=MAX_LINE, max_field_size=MAX_LINE
    )
    content.feed_eof()


def _request_is_over(request: web.BaseRequest, _source: socket.socket) -> None:
    """What follows on the client's connection is its next request."""
    client = request.protocol
    client._parser = HttpRequestParser(  # noqa: SLF001  # private, as is the rest; pinned by tests/edge/test_splice.py
        client,
        client._loop,  # noqa: SLF001
        READ_BUFFER,
        max_line_size=client.max_line_size,
        max_field_size=client.max_field_size,
        max_headers=client.max_headers,
        payload_exception=web.RequestPayloadError,
        auto_decompress=False,
        max_msg_queue_size=client._max_msg_queue_size,  # noqa: SLF001
    )
    request.content.feed_eof()


def _request_broke_off(request: web.BaseRequest) -> None:
    """The client's connection ends with the answer; what still comes is read, and thrown away (H48)."""
    request.protocol.close()
    request.protocol.resume_reading(resume_parser=False)


async def _client_is_gone(request: web.BaseRequest) -> None:
    """End its connection, which breaks off whoever relays for it (`edge/server.py::ending_with_client`)."""
    if request.transport is not None:
        request.transport.abort()
    await asyncio.sleep(LOOK)
    raise ConnectionResetError("the client went away")


class _Flow:
    """The bytes of a body that the library has not seen, on their way from one socket to the other."""

    def __init__(self, job: _Job, stack: contextlib.ExitStack) -> None:
        """Open until ``stack`` ends.  Raises `OSError` where there is no room for it."""
        self._job = job
        self._left = job.left
        self._left_before = self._left
        self._held = 0
        self._mark = 1
        self._waits_for_target: bool | None = None
        self._loop = asyncio.get_running_loop()
        self._moved_at = self._loop.time()
        self._ended: asyncio.Future[_End] = self._loop.create_future()
        self._looking: asyncio.TimerHandle | None = None
        self._pipe = stack.enter_context(_pipes.one())
        self._source = stack.enter_context(contextlib.closing(_twin(job.source.transport)))
        self._target = stack.enter_context(contextlib.closing(_twin(job.writer.transport)))
        stack.callback(self._stop)

    def takes(self) -> bool:
        """Take the first bytes; False where there is nothing more.  Raises `OSError` where the kernel cannot do it."""
        try:
            self._held = self._splice_in()
        except BlockingIOError:
            return True
        return self._held > 0

    def count_first(self) -> None:
        """What was taken first belongs to the body from now on."""
        self._took(self._held)

    async def run(self) -> _End:
        """Move all of it."""
        self._moved_at = self._loop.time()
        self._set_mark(min(MARK, self._left))
        self._looking = self._loop.call_later(LOOK, self._look)
        self._step()
        return await self._ended

    def _step(self) -> None:
        """Go on as far as it goes, and wait for whoever keeps it."""
        if self._ended.done():
            return
        try:
            end = self._pour() or self._fill() or self._pour()
        except Exception as error:  # noqa: BLE001  # raised where the end is waited for
            self._ended.set_exception(error)
            return
        if end is None and (self._held or self._left):
            self._wait_for(target=self._held > 0)
        else:
            self._ended.set_result(end or _End.WHOLE)

    def _fill(self) -> _End | None:
        if self._held or not self._left:
            return None
        try:
            self._held = self._splice_in()
        except BlockingIOError:
            return None
        except OSError:
            return _End.SOURCE_GONE
        if not self._held:
            return _End.SOURCE_GONE
        self._took(self._held)
        return None

    def _pour(self) -> _End | None:
        if not self._held:
            return None
        try:
            given = os.splice(self._pipe.out, self._target.fileno(), self._held, flags=_FLAGS)
        except BlockingIOError:
            return None
        except OSError:
            return _End.TARGET_GONE
        self._held -= given
        self._gave(given)
        return None

    def _splice_in(self) -> int:
        return os.splice(self._source.fileno(), self._pipe.into, min(self._pipe.size, self._left), flags=_FLAGS)

    def _took(self, count: int) -> None:
        self._left -= count
        self._job.content.total_bytes += count
        self._has_moved()
        if not self._left:
            self._let_go()
        elif self._left < self._mark:
            self._set_mark(self._left)

    def _gave(self, count: int) -> None:
        writer = self._job.writer
        writer.output_size += count
        if writer.length is not None:
            writer.length -= count
        self._has_moved()

    def _has_moved(self) -> None:
        self._moved_at = self._loop.time()
        self._job.moved()

    def _let_go(self) -> None:
        """The source has given all; it belongs to the library again."""
        self._loop.remove_reader(self._source.fileno())
        self._set_mark(1)
        self._job.over(self._source)
        self._source.close()

    def _set_mark(self, mark: int) -> None:
        """How many bytes have to be there before the source is said to have some; fewer at its end."""
        if mark != self._mark and self._source.fileno() >= 0:
            self._mark = mark
            with contextlib.suppress(OSError):
                self._source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, mark)

    def _wait_for(self, *, target: bool) -> None:
        if target is self._waits_for_target:
            return
        self._wait_no_more()
        self._waits_for_target = target
        if target:
            self._loop.add_writer(self._target.fileno(), self._step)
            self._job.writer.protocol.pause_writing()
        else:
            self._loop.add_reader(self._source.fileno(), self._step)

    def _wait_no_more(self) -> None:
        if self._waits_for_target:
            self._loop.remove_writer(self._target.fileno())
            self._job.writer.protocol.resume_writing()
        elif self._source.fileno() >= 0:
            self._loop.remove_reader(self._source.fileno())
        self._waits_for_target = None

    def _look(self) -> None:
        """Say how many bytes are worth a step, take those that were too few, and give up who has not moved for long."""
        self._looking = self._loop.call_later(LOOK, self._look)
        is_fast, self._left_before = self._left_before - self._left >= MARK, self._left
        self._set_mark(min(MARK, self._left) if is_fast else 1)
        self._step()
        idle = self._loop.time() - self._moved_at
        if idle > (self._job.patience if self._held else self._job.silence) and not self._ended.done():
            self._ended.set_result(_End.TARGET_STUCK if self._held else _End.SOURCE_SILENT)

    def _stop(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        self._wait_no_more()
        self._set_mark(1)


def _has_more(source: socket.socket) -> bool:
    """Whether something can be read: a byte, or the end."""
    try:
        source.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _twin(transport: asyncio.Transport | None) -> socket.socket:
    """The same socket under a number of its own."""
    if transport is None:
        raise ConnectionResetError
    twin: socket.socket = transport.get_extra_info("socket").dup()
    return twin


_FLAGS = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE if _POSSIBLE else 0


@dataclass(frozen=True, slots=True)
class _Pipe:
    """A pipe for ``size`` bytes."""

    out: int
    into: int
    size: int


class _Pipes:
    """The pipes of this process, new for each transfer, so that nothing of one ever comes into another."""

    def __init__(self) -> None:
        self._left = ROOM
        self._open = 0

    @contextlib.contextmanager
    def one(self) -> Iterator[_Pipe]:
        """Raises `OSError` where there is no room for it."""
        if (self._open + 1) * FILES_EACH > files.room(FILES):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        out, into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        size = 0
        self._open += 1
        try:
            size = self._enlarged(into)
            self._left -= size
            yield _Pipe(out, into, size)
        finally:
            self._left += size
            self._open -= 1
            os.close(out)
            os.close(into)

    def _enlarged(self, into: int) -> int:
        """As large as the system allows and as leaves room for others; raises `OSError`."""
        for size in SIZES:
            if size * (SHARE if size > SIZES[-1] else 1) <= self._left:
                with contextlib.suppress(OSError):
                    return fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, size)
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))


_pipes = _Pipes()
