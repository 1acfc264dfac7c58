"""Repositories, tags and manifests."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from immuproxy.web.answers import API, SOURCES, as_json
from immuproxy.web.api import compare
from immuproxy.web.contexts.repositories import ORDERS
from immuproxy.web.links import Place, PlaceKind
from immuproxy.web.parameters import (
    API_PAGE,
    choice_of,
    limit_of,
    place_of,
    refuse_unknown,
    text_of,
    wish_of,
)
from immuproxy.web.queries import manifests as manifest_queries
from immuproxy.web.queries import repositories as queries
from immuproxy.web.queries import tags as tag_queries


async def repositories(request: web.Request) -> web.Response:
    query = request.query
    refuse_unknown(query, ("filter", "order", "limit", "cursor"))
    return as_json(
        await queries.repositories(
            request.app[SOURCES],
            filter_text=text_of(query, "filter"),
            order=choice_of(query, "order", dict(ORDERS), ORDERS[0][0]),
            limit=limit_of(query, API_PAGE),
            cursor=query.get("cursor", ""),
        )
    )


async def place(request: web.Request) -> web.Response:
    found = place_of(request.rel_url.raw_path)
    match found.kind:
        case PlaceKind.REPOSITORY:
            return as_json(await _repository(request, found))
        case PlaceKind.TAG:
            return as_json(await _tag(request, found))
        case PlaceKind.MANIFEST:
            return as_json(await _manifest(request, found))


async def _repository(request: web.Request, found: Place) -> dict[str, Any]:
    query = request.query
    refuse_unknown(query, ("filter", "state", "rule", "order", "limit", "cursor"))
    return await queries.repository(
        request.app[SOURCES],
        found.repository,
        wish_of(query),
        limit=limit_of(query, API_PAGE),
        cursor=query.get("cursor", ""),
    )


async def _tag(request: web.Request, found: Place) -> dict[str, Any]:
    query = request.query
    refuse_unknown(query, ("limit", "cursor"))
    return await tag_queries.tag(
        request.app[SOURCES],
        found.repository,
        found.reference,
        limit=limit_of(query, tag_queries.SHOWN_HISTORY),
        cursor=query.get("cursor", ""),
    )


async def _manifest(request: web.Request, found: Place) -> dict[str, Any]:
    refuse_unknown(request.query, ())
    return await manifest_queries.manifest(request.app[SOURCES], found.repository, found.reference)


def add_routes(app: web.Application) -> None:
    """Put these answers into the API."""
    app.router.add_get(f"{API}/repositories", repositories)
    app.router.add_get(f"{API}/repositories/{{place:.+}}", place)
    compare.add_routes(app)
