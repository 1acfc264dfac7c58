"""The audit log, one event of it, and completion."""

from __future__ import annotations

from aiohttp import web

from immuproxy.web.answers import API, SOURCES, as_json
from immuproxy.web.parameters import (
    API_PAGE,
    FILTERS,
    filters_of,
    limit_of,
    position_of,
    refuse_unknown,
    search_of,
)
from immuproxy.web.queries import log as queries


async def events(request: web.Request) -> web.Response:
    query, sources = request.query, request.app[SOURCES]
    refuse_unknown(query, ("q", "limit", "cursor", *FILTERS))
    now = sources.clock()
    return as_json(
        await queries.events(
            sources,
            search_of(query, now),
            filters=filters_of(query, now),
            limit=limit_of(query, API_PAGE),
            cursor=query.get("cursor", ""),
        )
    )


async def event(request: web.Request) -> web.Response:
    refuse_unknown(request.query, ())
    return as_json(await queries.event(request.app[SOURCES], request.match_info["id"]))


async def complete(request: web.Request) -> web.Response:
    refuse_unknown(request.query, ("q", "at"))
    text = request.query.get("q", "")
    return as_json(await queries.complete(request.app[SOURCES], text, position_of(request.query, len(text))))


def add_routes(app: web.Application) -> None:
    """Put these answers into the API."""
    app.router.add_get(f"{API}/events", events)
    app.router.add_get(f"{API}/events/{{id}}", event)
    app.router.add_get(f"{API}/complete", complete)
