"""The audit log and one event of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from immuproxy.audit.search import Search, SearchError, parse
from immuproxy.console.answers import API, SOURCES, as_json, as_page
from immuproxy.console.audit import search_form, view
from immuproxy.console.links import event_url, search_url, with_query
from immuproxy.console.parameters import (
    API_PAGE,
    FILTERS,
    PAGE,
    filters_of,
    limit_of,
    position_of,
    refuse_unknown,
    search_of,
)


async def audit(request: web.Request) -> web.Response:
    sources, text = request.app[SOURCES], request.query.get("q", "")
    try:
        search = parse(text, sources.clock())
    except SearchError as error:
        return await _bad_search(request, text, error)
    cursor, limit = request.query.get("cursor", ""), limit_of(request.query, PAGE)
    context = await view.events(sources, search, limit=limit, cursor=cursor)
    usual = {"limit": None if limit == PAGE else limit}
    extra = {
        **_search_form(text, search),
        "search": search,
        "next_href": search_url(text, cursor=context["next_cursor"], **usual) if context["next_cursor"] else "",
        "newest_href": search_url(text, **usual) if cursor else "",
        "live_href": with_query(f"{API}/live", **{"as": "row"}, q=text, after=context["live_cursor"]),
        "csv_href": with_query(f"{API}/events.csv", q=text),
        "lines_href": with_query(f"{API}/events.jsonl", q=text),
        "json_href": with_query(f"{API}/events", q=text, limit=limit, cursor=cursor),
    }
    return await as_page(request, "audit/audit.html", context | extra, place="audit")


async def _bad_search(request: web.Request, text: str, error: SearchError) -> web.Response:
    problem = search_form.search_problem(text, error)
    suggested = search_url(problem["suggestion"]) if problem["suggestion"] else ""
    extra = {"problem": problem, "suggested_href": suggested, **_search_form(text, Search())}
    return await as_page(request, "audit/audit.html", extra, place="audit", status=web.HTTPBadRequest.status_code)


def _search_form(text: str, search: Search) -> dict[str, Any]:
    return {
        "query": text,
        "outcomes": list(_choices(search_form.outcome_choices(search))),
        "times": list(_choices(search_form.time_choices(search))),
        "syntax": search_form.SYNTAX,
    }


def _choices(choices: Iterable[tuple[str, str, bool]]) -> Iterable[dict[str, Any]]:
    for label, search, chosen in choices:
        yield {"label": label, "href": search_url(search), "chosen": chosen}


async def event(request: web.Request) -> web.Response:
    event_id = request.match_info["id"]
    context = await view.event(request.app[SOURCES], event_id)
    extra = {"json_href": event_url(event_id, API), "search": Search()}
    return await as_page(request, "audit/event.html", context | extra, place="audit")


# --- the same as JSON


async def events(request: web.Request) -> web.Response:
    query, sources = request.query, request.app[SOURCES]
    refuse_unknown(query, ("q", "limit", "cursor", *FILTERS))
    now = sources.clock()
    return as_json(
        await view.events(
            sources,
            search_of(query, now),
            filters=filters_of(query, now),
            limit=limit_of(query, API_PAGE),
            cursor=query.get("cursor", ""),
        )
    )


async def event_json(request: web.Request) -> web.Response:
    refuse_unknown(request.query, ())
    return as_json(await view.event(request.app[SOURCES], request.match_info["id"]))


async def complete(request: web.Request) -> web.Response:
    refuse_unknown(request.query, ("q", "at"))
    text = request.query.get("q", "")
    return as_json(await view.complete(request.app[SOURCES], text, position_of(request.query, len(text))))


def add_routes(app: web.Application) -> None:
    """Put this view into the console, as pages and as JSON."""
    app.router.add_get("/audit", audit)
    app.router.add_get("/events/{id}", event)
    app.router.add_get(f"{API}/events", events)
    app.router.add_get(f"{API}/events/{{id}}", event_json)
    app.router.add_get(f"{API}/complete", complete)
