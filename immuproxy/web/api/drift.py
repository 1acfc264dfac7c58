"""Drift."""

from __future__ import annotations

from aiohttp import web

from immuproxy.web.answers import API, SOURCES, as_json
from immuproxy.web.parameters import limit_of, refuse_unknown
from immuproxy.web.queries import drift as queries


async def drift(request: web.Request) -> web.Response:
    query = request.query
    refuse_unknown(query, ("limit", "cursor", "history_cursor"))
    return as_json(
        await queries.drift(
            request.app[SOURCES],
            limit=limit_of(query, queries.MOST, queries.MOST),
            cursor=query.get("cursor", ""),
            history_cursor=query.get("history_cursor", ""),
        )
    )


def add_routes(app: web.Application) -> None:
    """Put this answer into the API."""
    app.router.add_get(f"{API}/drift", drift)
