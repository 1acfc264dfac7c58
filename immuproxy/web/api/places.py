"""Repositories, tags and manifests."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from immuproxy.web.answers import API, SOURCES, as_json
from immuproxy.web.contexts.repositories import ORDERS
from immuproxy.web.links import Place, PlaceKind
from immuproxy.web.parameters import (
    API_PAGE,
    choice_of,
    limit_of,
    place_of,
    refuse_unknown,
    text_of,
)
from immuproxy.web.queries import places as queries


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


async def repository_place(request: web.Request) -> web.Response:
    place = place_of(request.rel_url.raw_path)
    match place.kind:
        case PlaceKind.REPOSITORY:
            return as_json(await _repository(request, place.repository))
        case PlaceKind.TAG:
            return as_json(await _tag(request, place))
        case PlaceKind.MANIFEST:
            refuse_unknown(request.query, ())
            return as_json(await queries.manifest(request.app[SOURCES], place.repository, place.reference))


async def _repository(request: web.Request, name: str) -> dict[str, Any]:
    query = request.query
    refuse_unknown(query, ("filter", "limit", "cursor"))
    return await queries.repository(
        request.app[SOURCES],
        name,
        filter_text=text_of(query, "filter"),
        limit=limit_of(query, API_PAGE),
        cursor=query.get("cursor", ""),
    )


async def _tag(request: web.Request, place: Place) -> dict[str, Any]:
    query = request.query
    refuse_unknown(query, ("limit", "cursor"))
    return await queries.tag(
        request.app[SOURCES],
        place.repository,
        place.reference,
        limit=limit_of(query, queries.SHOWN_HISTORY),
        cursor=query.get("cursor", ""),
    )


def add_routes(app: web.Application) -> None:
    """Put these answers into the API."""
    app.router.add_get(f"{API}/repositories", repositories)
    app.router.add_get(f"{API}/repositories/{{place:.+}}", repository_place)
