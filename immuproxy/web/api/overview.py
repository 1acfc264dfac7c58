"""The first page and the health of the parts."""

from __future__ import annotations

from aiohttp import web

from immuproxy.web.answers import API, SOURCES, as_json
from immuproxy.web.contexts.overview import status_dict
from immuproxy.web.parameters import (
    range_of,
    refuse_unknown,
)
from immuproxy.web.queries import overview as queries


async def overview(request: web.Request) -> web.Response:
    refuse_unknown(request.query, ("range", "since", "until"))
    sources = request.app[SOURCES]
    return as_json(await queries.overview(sources, range_of(request.query, sources.clock())))


async def status(request: web.Request) -> web.Response:
    refuse_unknown(request.query, ())
    return as_json(status_dict(await request.app[SOURCES].status()))


def add_routes(app: web.Application) -> None:
    """Put these answers into the API."""
    app.router.add_get(f"{API}/overview", overview)
    app.router.add_get(f"{API}/status", status)
