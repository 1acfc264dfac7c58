"""Repositories, tags and manifests."""

from __future__ import annotations

from aiohttp import web

from immuproxy.ledger.search import Search
from immuproxy.web.answers import API, SOURCES, as_page
from immuproxy.web.contexts.repositories import ORDERS
from immuproxy.web.links import (
    Place,
    PlaceKind,
    manifest_url,
    repository_url,
    tag_url,
    with_query,
)
from immuproxy.web.parameters import PAGE, choice_of, limit_of, place_of, text_of
from immuproxy.web.queries import places as queries


async def repositories(request: web.Request) -> web.Response:
    query = request.query
    filter_text, cursor = text_of(query, "filter"), query.get("cursor", "")
    order = choice_of(query, "order", dict(ORDERS), ORDERS[0][0])
    context = await queries.repositories(
        request.app[SOURCES], filter_text=filter_text, order=order, limit=limit_of(query, PAGE), cursor=cursor
    )
    here = {"filter": filter_text, "order": None if order == ORDERS[0][0] else order}
    following = context["next_cursor"]
    extra = {
        "orders": ORDERS,
        "next_href": with_query("/repositories", cursor=following, **here) if following else "",
        "first_href": with_query("/repositories", **here) if cursor else "",
        "json_href": with_query(f"{API}/repositories", **here),
    }
    return await as_page(request, "repositories.html", context | extra, place="repositories")


async def repository_place(request: web.Request) -> web.Response:
    place = place_of(request.rel_url.raw_path)
    match place.kind:
        case PlaceKind.REPOSITORY:
            return await _repository(request, place.repository)
        case PlaceKind.TAG:
            return await _tag(request, place.repository, place.reference)
        case PlaceKind.MANIFEST:
            return await _manifest(request, place)


async def _repository(request: web.Request, name: str) -> web.Response:
    query = request.query
    filter_text, cursor = text_of(query, "filter"), query.get("cursor", "")
    context = await queries.repository(
        request.app[SOURCES], name, filter_text=filter_text, limit=limit_of(query, PAGE), cursor=cursor
    )
    url, following = repository_url(name), context["next_cursor"]
    extra = {
        "search": Search().with_term("repo", name),
        "next_href": with_query(url, filter=filter_text, cursor=following) if following else "",
        "first_href": with_query(url, filter=filter_text) if cursor else "",
        "json_href": repository_url(name, API),
    }
    return await as_page(request, "repository.html", context | extra, place="repositories")


async def _tag(request: web.Request, repository: str, tag: str) -> web.Response:
    cursor = request.query.get("cursor", "")
    context = await queries.tag(
        request.app[SOURCES], repository, tag, limit=limit_of(request.query, queries.SHOWN_HISTORY), cursor=cursor
    )
    url, following = tag_url(repository, tag), context["next_cursor"]
    extra = {
        "search": Search().with_term("repo", repository).with_term("tag", tag),
        "older_href": with_query(url, cursor=following) if following else "",
        "first_href": url if cursor else "",
        "json_href": tag_url(repository, tag, API),
    }
    return await as_page(request, "tag.html", context | extra, place="repositories")


async def _manifest(request: web.Request, place: Place) -> web.Response:
    context = await queries.manifest(request.app[SOURCES], place.repository, place.reference)
    extra = {
        "search": Search().with_term("repo", place.repository).with_term("digest", place.reference),
        "json_href": manifest_url(place.repository, place.reference, API),
    }
    return await as_page(request, "manifest.html", context | extra, place="repositories")


def add_routes(app: web.Application) -> None:
    """Put these pages into the console."""
    app.router.add_get("/repositories", repositories)
    app.router.add_get("/repositories/{place:.+}", repository_place)
