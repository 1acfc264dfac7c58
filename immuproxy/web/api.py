"""The JSON API: the dicts of the pages, as they are, under ``/api/v1``; ``openapi.json`` describes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from immuproxy.web import queries
from immuproxy.web.answers import API, SOURCES, as_json
from immuproxy.web.assets import OPENAPI
from immuproxy.web.contexts.overview import status_dict
from immuproxy.web.contexts.repositories import ORDERS
from immuproxy.web.links import Place, PlaceKind
from immuproxy.web.pages import place_of
from immuproxy.web.parameters import (
    FILTERS,
    choice_of,
    limit_of,
    position_of,
    range_of,
    refuse_unknown,
    search_of,
    tag_of,
    text_of,
)

PAGE = 100
"""Entries of an answer that does not ask for more."""


async def overview(request: web.Request) -> web.Response:
    refuse_unknown(request.query, ("range",))
    return as_json(await queries.overview(request.app[SOURCES], range_of(request.query)))


async def events(request: web.Request) -> web.Response:
    query, sources = request.query, request.app[SOURCES]
    refuse_unknown(query, ("q", "limit", "cursor", *FILTERS))
    search = search_of(query, sources.clock())
    return as_json(await queries.events(sources, search, limit=limit_of(query, PAGE), cursor=query.get("cursor", "")))


async def event(request: web.Request) -> web.Response:
    refuse_unknown(request.query, ())
    return as_json(await queries.event(request.app[SOURCES], request.match_info["id"]))


async def repositories(request: web.Request) -> web.Response:
    query = request.query
    refuse_unknown(query, ("filter", "order", "limit", "cursor"))
    return as_json(
        await queries.repositories(
            request.app[SOURCES],
            filter_text=text_of(query, "filter"),
            order=choice_of(query, "order", dict(ORDERS), ORDERS[0][0]),
            limit=limit_of(query, PAGE),
            cursor=query.get("cursor", ""),
        )
    )


async def repository_place(request: web.Request) -> web.Response:
    place = place_of(request)
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
        limit=limit_of(query, PAGE),
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


async def rules(request: web.Request) -> web.Response:
    refuse_unknown(request.query, ())
    return as_json(await queries.rules(request.app[SOURCES]))


async def explain(request: web.Request) -> web.Response:
    refuse_unknown(request.query, ("tag", "user"))
    return as_json(queries.explain(request.app[SOURCES], *tag_of(request.query), text_of(request.query, "user")))


async def complete(request: web.Request) -> web.Response:
    refuse_unknown(request.query, ("q", "at"))
    text = request.query.get("q", "")
    return as_json(await queries.complete(request.app[SOURCES], text, position_of(request.query, len(text))))


async def status(request: web.Request) -> web.Response:
    refuse_unknown(request.query, ())
    return as_json(status_dict(await request.app[SOURCES].status()))


async def openapi(_request: web.Request) -> web.Response:
    return as_json(OPENAPI)


def add_routes(app: web.Application) -> None:
    """Put the API into the console."""
    routes: dict[str, Callable[[web.Request], Awaitable[Any]]] = {
        "/overview": overview,
        "/events": events,
        "/events/{id}": event,
        "/repositories": repositories,
        "/repositories/{place:.+}": repository_place,
        "/rules": rules,
        "/rules/explain": explain,
        "/complete": complete,
        "/status": status,
        "/openapi.json": openapi,
    }
    for path, handler in routes.items():
        app.router.add_get(f"{API}{path}", handler)
