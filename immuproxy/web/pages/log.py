"""The audit log and one event of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from immuproxy.audit.search import Search, SearchError, parse
from immuproxy.web.answers import API, SOURCES, as_page
from immuproxy.web.contexts import log
from immuproxy.web.links import (
    event_url,
    search_url,
    with_query,
)
from immuproxy.web.parameters import PAGE, limit_of
from immuproxy.web.queries import log as queries


async def audit(request: web.Request) -> web.Response:
    sources, text = request.app[SOURCES], request.query.get("q", "")
    try:
        search = parse(text, sources.clock())
    except SearchError as error:
        return await _bad_search(request, text, error)
    cursor, limit = request.query.get("cursor", ""), limit_of(request.query, PAGE)
    context = await queries.events(sources, search, limit=limit, cursor=cursor)
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
    return await as_page(request, "audit.html", context | extra, place="audit")


async def _bad_search(request: web.Request, text: str, error: SearchError) -> web.Response:
    problem = log.search_problem(text, error)
    suggested = search_url(problem["suggestion"]) if problem["suggestion"] else ""
    extra = {"problem": problem, "suggested_href": suggested, **_search_form(text, Search())}
    return await as_page(request, "audit.html", extra, place="audit", status=web.HTTPBadRequest.status_code)


def _search_form(text: str, search: Search) -> dict[str, Any]:
    return {
        "query": text,
        "outcomes": list(_choices(log.outcome_choices(search))),
        "times": list(_choices(log.time_choices(search))),
        "syntax": log.SYNTAX,
    }


def _choices(choices: Iterable[tuple[str, str, bool]]) -> Iterable[dict[str, Any]]:
    for label, search, chosen in choices:
        yield {"label": label, "href": search_url(search), "chosen": chosen}


async def event(request: web.Request) -> web.Response:
    event_id = request.match_info["id"]
    context = await queries.event(request.app[SOURCES], event_id)
    return await as_page(
        request, "event.html", context | {"json_href": event_url(event_id, API), "search": Search()}, place="audit"
    )


def add_routes(app: web.Application) -> None:
    """Put these pages into the console."""
    app.router.add_get("/audit", audit)
    app.router.add_get("/events/{id}", event)
