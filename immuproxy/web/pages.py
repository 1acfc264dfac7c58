"""The pages: a view's dict, the links of the page, and a template."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from immuproxy.ledger.search import Search, SearchError, parse
from immuproxy.web import queries
from immuproxy.web.answers import API, SOURCES, as_page
from immuproxy.web.contexts import log
from immuproxy.web.contexts.repositories import ORDERS
from immuproxy.web.links import (
    Place,
    PlaceKind,
    event_url,
    manifest_url,
    parse_place,
    repository_url,
    search_url,
    tag_url,
    with_query,
)
from immuproxy.web.parameters import choice_of, limit_of, range_of, tag_of, text_of
from immuproxy.web.problems import Problem, not_found

PAGE = 50
"""Lines of a page that does not ask for more."""


async def overview(request: web.Request) -> web.Response:
    context = await queries.overview(request.app[SOURCES], range_of(request.query))
    extra = {"tiles": tiles(context), "empty": not context["recorded"], "json_href": f"{API}/overview"}
    return await as_page(request, "overview.html", context | extra, place="overview")


def tiles(context: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures on top of the overview."""
    since = f"since:{context['range']['name']}"
    rows = (
        (
            "accepted",
            "Accepted",
            "good",
            "plus",
            f"outcome:created outcome:overwritten {since}",
            "new or allowed to change",
        ),
        ("unchanged", "Unchanged", "calm", "equal", f"outcome:unchanged {since}", "pushed again, the same"),
        ("refused", "Refused", "bad", "cross", f"outcome:refused {since}", "would have changed a tag"),
        ("failed", "Failed", "odd", "bang", f"outcome:failed {since}", "the registry did not take it"),
        ("drift", "Drift", "warn", "diamond", f"outcome:found {since}", "the registry says otherwise"),
    )
    return [
        {"label": label, "tone": tone, "shape": shape, "search": search, "hint": hint, "count": context["totals"][name]}
        for name, label, tone, shape, search, hint in rows
    ]


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
        "live_href": with_query(f"{API}/live", **{"as": "row"}, q=text),
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


def place_of(request: web.Request) -> Place:
    """What the path names; raises `Problem` when it can be nothing."""
    _, _, rest = request.rel_url.raw_path.partition("/repositories/")
    place = parse_place(rest)
    if place is None:
        raise not_found(
            "This address names no repository, tag or manifest.",
            "Repository names are lower-case letters and digits with . _ - and / between them.",
        )
    return place


async def repository_place(request: web.Request) -> web.Response:
    place = place_of(request)
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


async def rules(request: web.Request) -> web.Response:
    """The rules in force; ``tag`` (``repository:tag``) and ``user`` ask for an explanation."""
    sources, query = request.app[SOURCES], request.query
    asked = {
        "asked_tag": query.get("tag", ""),
        "asked_user": query.get("user", ""),
        "asked_problem": "",
        "explanation": None,
    }
    if asked["asked_tag"]:
        try:
            asked |= queries.explain(sources, *tag_of(query), text_of(query, "user"))
        except Problem as problem:
            asked["asked_problem"] = f"{problem.message} {problem.advice}"
    context = await queries.rules(sources)
    status = 400 if asked["asked_problem"] else 200
    return await as_page(
        request, "rules.html", context | asked | {"json_href": f"{API}/rules"}, place="rules", status=status
    )


def add_routes(app: web.Application) -> None:
    """Put the pages into the console."""
    app.router.add_get("/", overview)
    app.router.add_get("/audit", audit)
    app.router.add_get("/events/{id}", event)
    app.router.add_get("/rules", rules)
    app.router.add_get("/repositories", repositories)
    app.router.add_get("/repositories/{place:.+}", repository_place)
