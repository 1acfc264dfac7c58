"""The pages: a view's dict, the links of the page, and a template."""

from __future__ import annotations

from aiohttp import web

from immuproxy.web.pages import drift, exceptions, log, overview, places, rules, what_if


def add_routes(app: web.Application) -> None:
    """Put the pages into the console."""
    for room in (overview, log, places, drift, exceptions, rules, what_if):
        room.add_routes(app)
