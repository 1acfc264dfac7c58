"""One tag with its life."""

from __future__ import annotations

from aiohttp import web

from immuproxy.audit.search import Search
from immuproxy.console.answers import API, SOURCES, as_json, as_page
from immuproxy.console.links import Place, tag_url, with_query
from immuproxy.console.parameters import limit_of, refuse_unknown
from immuproxy.console.tags import view


async def tag(request: web.Request, place: Place) -> web.Response:
    repository, name = place.repository, place.reference
    limit, cursor = limit_of(request.query, view.SHOWN_HISTORY), request.query.get("cursor", "")
    context = await view.tag(request.app[SOURCES], repository, name, limit=limit, cursor=cursor)
    url, following = tag_url(repository, name), context["next_cursor"]
    shown = None if limit == view.SHOWN_HISTORY else limit
    extra = {
        "search": Search().with_term("repo", repository).with_term("tag", name),
        "older_href": with_query(url, cursor=following, limit=shown) if following else "",
        "first_href": with_query(url, limit=shown) if cursor else "",
        "json_href": tag_url(repository, name, API),
    }
    return await as_page(request, "tags/tag.html", context | extra, place="repositories")


# --- the same as JSON


async def tag_json(request: web.Request, place: Place) -> web.Response:
    query = request.query
    refuse_unknown(query, ("limit", "cursor"))
    return as_json(
        await view.tag(
            request.app[SOURCES],
            place.repository,
            place.reference,
            limit=limit_of(query, view.SHOWN_HISTORY),
            cursor=query.get("cursor", ""),
        )
    )
