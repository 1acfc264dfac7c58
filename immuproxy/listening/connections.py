"""The connections of one listener: how many, how long one may be silent, and what is said to what is no HTTP.

aiohttp bounds neither their number nor, with its usual settings, how long a head may take; and its answer to a broken
head quotes it.  What is private of the library here is pinned by `tests/listening` and
`tests/service/test_listeners.py`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from immuproxy.listening import broken
from immuproxy.listening.files import MOST
from immuproxy.values.networks import plain_address

log = structlog.get_logger("immuproxy")

HEAD = 30.0
"""Seconds that a head may take, the first from the connection on."""

UNHEARD = 1.0
"""Seconds from the connection on for which its first request is waited for where no more are taken."""

STUCK = 5.0
"""Seconds after which an answer that nobody takes is no reason to keep a place that others need."""

LOOKED_AT = 100
"""Connections looked at to find one that can go: each new one may cost no more than that, however many there are."""

COSTLY = 0.02
"""Seconds of work that reading from one connection may have cost beyond its share: chunks of a byte each do."""

SHARE = 0.1
EACH_BYTE = 30e-9
"""What reading from one connection may cost: of all work, and seconds for each byte, which is several times what a body
takes in chunks of the usual size.
"""

RESTS = 5.0
"""How much longer than the work is the pause after it, for all such connections of a listener together."""

LONGEST_REST = 5.0
"""Seconds that a connection waits for its turn to be costly again; far less than a body may stand still."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Connection(RequestHandler):
    """One connection; a subclass says in which form its client is told what is wrong."""

    listener = ""
    _late: asyncio.TimerHandle | None = None
    _untaken_since = math.inf
    _resting: asyncio.TimerHandle | None = None
    _cost = _counted_at = 0.0

    def problem(self, status: int, message: str) -> web.StreamResponse:
        """The answer to a request that nobody handled."""
        raise NotImplementedError

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request, or for the rest of a head."""
        waits = self._request_count == 0 if self._waiter is None else not self._waiter.done()
        return waits and not self._force_close

    @property
    def is_stuck(self) -> bool:
        """Whether its client has not taken what waits for it for a while; also where only that keeps it from ending."""
        return self._loop.time() - self._untaken_since > STUCK

    @property
    def is_resting(self) -> bool:
        """Whether nothing is read from it for a while, because that took too much work."""
        return self._resting is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is here; its first head has to come in time."""
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client.

        The library tells a body that breaks off into nonsense to the request after it only; whoever reads the body
        would wait for ever.
        """
        asked, began = self._current_request, time.thread_time()
        super().data_received(data)
        self._count(began, time.thread_time(), len(data))
        if data:
            self._watch_head()
        if self._request_count and isinstance(self._manager, Connections):
            self._manager.has_asked(self)
        if asked is None or asked.content.is_eof() or not self._messages:
            return
        if not isinstance(self._messages[-1][0], RawRequestMessage):
            asked.content.set_exception(web.RequestPayloadError("the body is broken"))

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client hung up, or was cut off."""
        super().connection_lost(exc)
        self._stop_watching()
        if self._resting is not None:
            self._resting.cancel()

    def _count(self, began: float, ended: float, size: int) -> None:
        """Read no more for a while where reading takes too much work; the library reads on where some was left.

        In seconds of the processor: what others on the machine take of it is nobody's fault here.
        """
        free = SHARE * (began - self._counted_at) + EACH_BYTE * size
        self._cost = max(0.0, self._cost + ended - began - free)
        self._counted_at = ended
        if self._cost > COSTLY and isinstance(self._manager, Connections):
            self._rest(self._manager.rested_after(self._cost))
            self._cost = 0.0

    def _rest(self, until: float) -> None:
        if self._resting is not None:
            self._resting.cancel()
        self._pause_transport_reading()
        self._resting = self._loop.call_at(until, self._read_on)

    def _read_on(self) -> None:
        self._resting = None
        if not self._reading_paused and not self._buffer_paused:
            self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        """Where the library has room again; a rest goes on (private; pinned by `tests/listening`)."""
        if self._resting is None:
            super()._resume_transport_reading()

    def pause_writing(self) -> None:
        """The client takes its answer more slowly than it is made."""
        super().pause_writing()
        self._untaken_since = self._loop.time()

    def resume_writing(self) -> None:
        """The client has taken most of it."""
        super().resume_writing()
        self._untaken_since = math.inf

    def force_close(self) -> None:
        """End it, once the client has taken what waits for it."""
        super().force_close()
        self._untaken_since = min(self._untaken_since, self._loop.time())

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
        self._rested_at = 0.0
        self._silent: OrderedDict[RequestHandler, float] = OrderedDict()
        self._asking: OrderedDict[RequestHandler, None] = OrderedDict()

    def __call__(self) -> RequestHandler:
        """One connection."""
        return self.connection(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Another client; where there is no room, whoever keeps a place without need goes (H89).

        One that finds none goes a step later: the library's task of a connection that ended before it began fails.
        """
        super().connection_made(handler, transport)
        if len(self._connections) > self._room and not self._one_goes():
            self._loop.call_soon(handler.force_close)
        else:
            self._silent[handler] = self._loop.time()

    def has_asked(self, handler: RequestHandler) -> None:
        """A whole head came."""
        if handler in self._silent:
            del self._silent[handler]
            self._asking[handler] = None

    async def newcomers_heard(self) -> None:
        """Return when nobody is left who came a moment ago and has not asked for anything yet."""
        while True:
            newest = next(reversed(self._silent.values()), -math.inf)
            if newest < self._loop.time() - UNHEARD:
                return
            await asyncio.sleep(UNHEARD / 100)

    def rested_after(self, seconds: float) -> float:
        """The loop's time at which somebody who made that much work may make more: after all who did so before."""
        now = self._loop.time()
        self._rested_at = min(max(now, self._rested_at) + RESTS * seconds, now + LONGEST_REST)
        return self._rested_at

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """It has ended."""
        super().connection_lost(handler, exc)
        self._silent.pop(handler, None)
        self._asking.pop(handler, None)

    def _one_goes(self) -> bool:
        """The oldest that never asked for anything, else one that asks for nothing now, or takes no answer."""
        if self._silent:
            silent, _ = self._silent.popitem(last=False)
            self._connections[silent].abort()
            return True
        for _ in range(min(LOOKED_AT, len(self._asking))):
            one = next(iter(self._asking))
            self._asking.move_to_end(one)
            if isinstance(one, Connection) and _ended(one, self._connections.get(one)):
                return True
        return False


def _ended(one: Connection, transport: asyncio.Transport | None) -> bool:
    """Whether it could go, and does."""
    if one.is_idle:
        one.force_close()
        return True
    if one.is_stuck and transport is not None:
        transport.abort()
        return True
    return False
