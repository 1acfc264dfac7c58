"""The list of repositories, and one repository with its tags."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiohttp import web

from immuproxy.audit.search import Search
from immuproxy.console.answers import API, SOURCES, as_json, as_page
from immuproxy.console.links import Place, repository_url, with_query
from immuproxy.console.parameters import API_PAGE, PAGE, choice_of, limit_of, refuse_unknown, text_of, wish_of
from immuproxy.console.repositories import tag_list, view
from immuproxy.console.repositories.summaries import ORDERS
from immuproxy.console.repositories.tag_list import TagQuery

LATEST_FIRST = frozenset({"set"})
"""Columns that a first click orders from the greatest down."""

ORDER_LABELS = {
    "-set": "Last set first",
    "set": "First set first",
    "name": "By name, oldest version first",
    "-name": "By name, newest version first",
    "state": "By state",
    "rule": "By rule",
    "by": "By who set it",
}


async def repositories(request: web.Request) -> web.Response:
    query = request.query
    filter_text, cursor = text_of(query, "filter"), query.get("cursor", "")
    order = choice_of(query, "order", dict(ORDERS), ORDERS[0][0])
    context = await view.repositories(
        request.app[SOURCES], filter_text=filter_text, order=order, limit=limit_of(query, PAGE), cursor=cursor
    )
    here = {"filter": filter_text, "order": None if order == ORDERS[0][0] else order}
    following = context["next_cursor"]
    extra = {
        "orders": ORDERS,
        "columns": dict(_repository_columns(filter_text, order)),
        "next_href": with_query("/repositories", cursor=following, **here) if following else "",
        "first_href": with_query("/repositories", **here) if cursor else "",
        "json_href": with_query(f"{API}/repositories", **here),
    }
    return await as_page(request, "repositories/repositories.html", context | extra, place="repositories")


SORTED = (("name", "Repository"), ("events", "Events"), ("refusals", "Refused"), ("activity", "Last event"))


def _repository_columns(filter_text: str, order: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The heads of the columns; each orders in one direction: names up, numbers and times down."""
    for name, label in SORTED:
        direction = "ascending" if name == "name" else "descending"
        href = with_query("/repositories", filter=filter_text, order=None if name == ORDERS[0][0] else name)
        yield name, {"label": label, "sort": direction if name == order else "", "href": href}


async def repository(request: web.Request, place: Place) -> web.Response:
    wish, limit = wish_of(request.query), limit_of(request.query, PAGE)
    name, cursor = place.repository, request.query.get("cursor", "")
    context = await view.repository(request.app[SOURCES], name, wish, limit=limit, cursor=cursor)
    url, shown = repository_url(name), None if limit == PAGE else limit
    previous, following = context["previous_cursor"], context["next_cursor"]
    extra = {
        "search": Search().with_term("repo", name),
        "columns": list(_columns(url, wish)),
        "orders": ORDER_LABELS,
        "state_choices": list(_state_choices(url, wish, context)),
        "all_href": url,
        "previous_href": "" if previous is None else _list_url(url, wish, cursor=previous, limit=shown),
        "next_href": _list_url(url, wish, cursor=following, limit=shown) if following else "",
        "json_href": _list_url(repository_url(name, API), wish),
    }
    return await as_page(request, "repositories/repository.html", context | extra, place="repositories")


def _list_url(url: str, wish: TagQuery, **other: str | int | None) -> str:
    """The list of tags as wished; ``other`` parameters go before what the wish says."""
    said: dict[str, str | int | None] = {
        "filter": wish.text,
        "state": wish.state,
        "rule": wish.rule,
        "order": None if wish.order == tag_list.USUAL_ORDER else wish.order,
    }
    return with_query(url, **(said | other))


def _columns(url: str, wish: TagQuery) -> Iterator[dict[str, Any]]:
    """The heads of the columns; a click on the one that orders turns the order round."""
    for column, label in tag_list.COLUMNS.items():
        up, down = column, f"-{column}"
        sort = {up: "ascending", down: "descending"}.get(wish.order, "")
        first, second = (down, up) if column in LATEST_FIRST else (up, down)
        order = second if wish.order == first else first
        yield {
            "name": column,
            "label": label,
            "sort": sort,
            "href": _list_url(url, wish, order=None if order == tag_list.USUAL_ORDER else order),
        }


def _state_choices(url: str, wish: TagQuery, context: dict[str, Any]) -> Iterator[dict[str, Any]]:
    counts = {row["state"]: row["count"] for row in context["states"]}
    yield {
        "label": "all",
        "count": sum(counts.values()),
        "href": _list_url(url, wish, state=None),
        "chosen": not wish.state,
    }
    for state in tag_list.STATES:
        if state in counts or state == wish.state:
            yield {
                "label": state,
                "count": counts.get(state, 0),
                "href": _list_url(url, wish, state=state),
                "chosen": state == wish.state,
            }


# --- the same as JSON


async def repositories_json(request: web.Request) -> web.Response:
    query = request.query
    refuse_unknown(query, ("filter", "order", "limit", "cursor"))
    return as_json(
        await view.repositories(
            request.app[SOURCES],
            filter_text=text_of(query, "filter"),
            order=choice_of(query, "order", dict(ORDERS), ORDERS[0][0]),
            limit=limit_of(query, API_PAGE),
            cursor=query.get("cursor", ""),
        )
    )


async def repository_json(request: web.Request, place: Place) -> web.Response:
    query = request.query
    refuse_unknown(query, ("filter", "state", "rule", "order", "limit", "cursor"))
    return as_json(
        await view.repository(
            request.app[SOURCES],
            place.repository,
            wish_of(query),
            limit=limit_of(query, API_PAGE),
            cursor=query.get("cursor", ""),
        )
    )


def add_routes(app: web.Application) -> None:
    """Put the list of repositories into the console; of one, see `immuproxy.console.places`."""
    app.router.add_get("/repositories", repositories)
    app.router.add_get(f"{API}/repositories", repositories_json)
