"""The live tail: events as they come, as server-sent events.

Each carries its cursor as the event's id, so a browser that was cut off goes on where it was (``Last-Event-ID``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial

import aiohttp_jinja2
from aiohttp import web

from immuproxy.audit.search import Search
from immuproxy.console.answers import API, SOURCES, UNAVAILABLE, dumps
from immuproxy.console.gate import Gate
from immuproxy.console.long_answers import SHARE, give, hold_back
from immuproxy.console.parameters import FILTERS, choice_of, filters_of, refuse_unknown, search_of
from immuproxy.ledger.model import Event

HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent, so that nothing between closes the connection."""

MOST_LISTENERS = 64
"""Tails open at once (H88)."""

MOST_OF_ONE = 16
"""Tails of one visitor."""

_LISTENERS: web.AppKey[Gate] = web.AppKey("listeners", Gate)
_CLOSING: web.AppKey[asyncio.Event] = web.AppKey("closing", asyncio.Event)


def message(name: str, data: str, cursor: str = "") -> bytes:
    """One server-sent event; line breaks in ``data`` are kept as its format asks."""
    lines = [f"event: {name}", *(f"id: {part}" for part in [cursor] if part)]
    return "\n".join([*lines, *(f"data: {line}" for line in data.splitlines()), "", ""]).encode()


async def live(request: web.Request) -> web.StreamResponse:
    """Events of a search from now on, each as a table row (``as=row``) or as JSON (``as=json``).

    ``after`` is the cursor of an earlier event, or the ``live_cursor`` of a page: what came since is sent first.
    """
    query, sources = request.query, request.app[SOURCES]
    refuse_unknown(query, ("q", "as", "after", *FILTERS))
    shape = choice_of(query, "as", ("row", "json"), "json")
    now = sources.clock()
    search, filters = search_of(query, now), filters_of(query, now)
    after = request.headers.get("Last-Event-ID", "") or query.get("after", "") or await sources.audit.end()
    with request.app[_LISTENERS].passing(request):
        return await _listen(request, _Tail(request, search, filters, shape), after)


async def _listen(request: web.Request, tail: _Tail, after: str) -> web.StreamResponse:
    audit = request.app[SOURCES].audit
    arrivals = audit.tail(tail.search, filters=tail.filters, after=after)  # a bad cursor is an error answer
    share = request.app[SHARE]
    hold_back(request)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
    await response.prepare(request)
    following = asyncio.ensure_future(anext(arrivals))
    closing = asyncio.create_task(request.app[_CLOSING].wait())
    try:
        # A listener that went away, or a Redis or an index that did: the browser comes back with the last id.
        with contextlib.suppress(ConnectionResetError, StopAsyncIteration, *UNAVAILABLE):
            await give(request, response, b"retry: 2000\n: listening\n\n")
            while not closing.done():
                await asyncio.wait({following, closing}, timeout=HEARTBEAT, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    await give(request, response, b": still here\n\n")
                    continue
                arrival = following.result()
                following = asyncio.ensure_future(anext(arrivals))
                await give(request, response, await share.make(partial(tail.message, arrival.event, arrival.cursor)))
        return response
    finally:
        for task in (closing, following):
            task.cancel()
        await asyncio.gather(closing, following, return_exceptions=True)
        if isinstance(arrivals, AsyncGenerator):
            await arrivals.aclose()


@dataclass(frozen=True, slots=True)
class _Tail:
    """What one listener asked for."""

    request: web.Request
    search: Search
    filters: Search
    shape: str

    def message(self, event: Event, cursor: str) -> bytes:
        """One event as the listener wants it."""
        if self.shape == "json":
            return message("json", dumps(event.to_dict()), cursor)
        context = {"event": event.to_dict(), "search": self.search, "now": self.request.app[SOURCES].clock()}
        return message("row", aiohttp_jinja2.render_string("audit/row.html", self.request, context), cursor)


async def _start(app: web.Application) -> None:
    app[_LISTENERS] = Gate("live tails", most=MOST_LISTENERS, each=MOST_OF_ONE)
    app[_CLOSING] = asyncio.Event()


async def _stop(app: web.Application) -> None:
    app[_CLOSING].set()


def add_routes(app: web.Application) -> None:
    """Put the live tail into the console."""
    app.on_startup.append(_start)
    app.on_shutdown.append(_stop)
    app.router.add_get(f"{API}/live", live, allow_head=False)
