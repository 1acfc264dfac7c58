"""All routes of the console, view by view; each has its own as pages and as JSON."""

from __future__ import annotations

import asyncio

from aiohttp import web

from immuproxy.console import assets, health, places
from immuproxy.console.access import pages as access
from immuproxy.console.answers import API, as_json
from immuproxy.console.audit import exports, live
from immuproxy.console.audit import routes as audit
from immuproxy.console.compare import routes as compare
from immuproxy.console.drift import routes as drift
from immuproxy.console.exceptions import routes as exceptions
from immuproxy.console.overview import routes as overview
from immuproxy.console.repositories import routes as repositories
from immuproxy.console.rules import routes as rules
from immuproxy.console.what_if import routes as what_if

_VIEWS = (
    overview,
    audit,
    exports,
    live,
    repositories,
    places,
    compare,
    drift,
    exceptions,
    rules,
    what_if,
    health,
    access,
)


async def openapi(_request: web.Request) -> web.Response:
    """The description of ``/api/v1``."""
    return as_json(await asyncio.to_thread(assets.openapi))  # not read at the start, for which it would be dear


def add_routes(app: web.Application) -> None:
    """Put every view into the console."""
    for view in _VIEWS:
        view.add_routes(app)
    app.router.add_get(f"{API}/openapi.json", openapi)
