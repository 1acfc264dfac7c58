"""A whole search as CSV or JSON Lines, streamed as it is taken: memory does not grow with the result (H88)."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import fields
from functools import partial
from time import monotonic

from aiohttp import web

from immuproxy.console.answers import API, SOURCES, UNAVAILABLE, dumps
from immuproxy.console.gate import Gate
from immuproxy.console.long_answers import SHARE, cut, give, hold_back
from immuproxy.console.parameters import FILTERS, filters_of, refuse_unknown, search_of
from immuproxy.console.wording import iso
from immuproxy.ledger.model import Event

COLUMNS = tuple(field.name for field in fields(Event))
_ACTIVE = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")
CHUNK = 64 * 1024
"""Bytes gathered before they are sent."""

PATIENCE = 0.5
"""Seconds after which less is sent: a search for something rare is seen to go on."""

SLICE = 25
"""Events that are written in one go: less than a millisecond."""

MOST_AT_ONCE = 6
"""Exports of all visitors."""

MOST_OF_ONE = 2
"""Exports of one visitor: the same search in both forms."""

OPEN: web.AppKey[Gate] = web.AppKey("exports", Gate)


def harmless(text: str) -> str:
    """Text that a spreadsheet shows instead of running it: what looks like a formula gets an apostrophe in front."""
    return f"'{text}" if text.lstrip(" ").startswith(_ACTIVE) else text


def csv_line(values: list[str]) -> str:
    """One line of CSV (RFC 4180), every value quoted and harmless."""
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow([harmless(value) for value in values])
    return line.getvalue()


def csv_event(event: Event) -> str:
    """An event as a line under `COLUMNS`; the time is ISO 8601 in UTC, platforms are apart by spaces."""
    values = event.to_dict() | {"time": iso(event.time), "platforms": " ".join(event.platforms)}
    return csv_line([_plain(values[name]) for name in COLUMNS])


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def json_event(event: Event) -> str:
    """An event as one line of JSON."""
    return f"{dumps(event.to_dict())}\n"


async def _export(
    request: web.Request, content_type: str, suffix: str, head: str, line: Callable[[Event], str]
) -> web.StreamResponse:
    sources = request.app[SOURCES]
    refuse_unknown(request.query, ("q", *FILTERS))
    now = sources.clock()
    search, filters = search_of(request.query, now), filters_of(request.query, now)
    with request.app[OPEN].passing(request):
        hold_back(request)
        found = aiter(sources.audit.export_pages(search, filters=filters))
        first = await anext(found, ())  # what cannot be begun is an error; what breaks later breaks the connection
        response = web.StreamResponse(
            headers={
                "Content-Type": content_type,
                "Content-Disposition": f'attachment; filename="immuproxy-events.{suffix}"',
            }
        )
        await response.prepare(request)
        try:
            async for piece in _pieces(request, head, first, found, line):
                await give(request, response, piece.encode())
            await response.write_eof()
        except UNAVAILABLE:
            cut(request)  # part of it has gone out, and nobody may take that for the whole
        except ConnectionResetError:
            pass  # whoever asked went away, or takes nothing
        return response


async def _pieces(
    request: web.Request,
    waiting: str,
    first: Sequence[Event],
    found: AsyncIterator[Sequence[Event]],
    line: Callable[[Event], str],
) -> AsyncIterator[str]:
    """What there is, as soon as it is much, or old; the first of it at once."""
    share, sent = request.app[SHARE], 0.0
    following: Sequence[Event] | None = first
    while following is not None:
        for start in range(0, len(following), SLICE):
            waiting += await share.make(partial(_lines, line, following[start : start + SLICE]))
        following = await anext(found, None)
        if waiting and (following is None or len(waiting) >= CHUNK or monotonic() - sent >= PATIENCE):
            yield waiting
            waiting, sent = "", monotonic()


def _lines(line: Callable[[Event], str], events: Sequence[Event]) -> str:
    return "".join(map(line, events))


async def events_csv(request: web.Request) -> web.StreamResponse:
    return await _export(request, "text/csv; charset=utf-8; header=present", "csv", csv_line(list(COLUMNS)), csv_event)


async def events_jsonl(request: web.Request) -> web.StreamResponse:
    return await _export(request, "application/jsonl; charset=utf-8", "jsonl", "", json_event)


def add_routes(app: web.Application) -> None:
    """Put the exports into the console."""
    app[OPEN] = Gate("exports", most=MOST_AT_ONCE, each=MOST_OF_ONE)
    app.router.add_get(f"{API}/events.csv", events_csv, allow_head=False)  # a head alone would cost as much
    app.router.add_get(f"{API}/events.jsonl", events_jsonl, allow_head=False)
