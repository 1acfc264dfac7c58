"""The JSON API: the dicts of the pages, as they are, under ``/api/v1``; ``openapi.json`` describes it."""

from __future__ import annotations

from aiohttp import web

from immuproxy.web.answers import API, as_json
from immuproxy.web.api import drift, exceptions, log, overview, places, rules, what_if
from immuproxy.web.assets import OPENAPI


async def openapi(_request: web.Request) -> web.Response:
    return as_json(OPENAPI)


def add_routes(app: web.Application) -> None:
    """Put the API into the console."""
    for room in (overview, log, places, drift, exceptions, rules, what_if):
        room.add_routes(app)
    app.router.add_get(f"{API}/openapi.json", openapi)
