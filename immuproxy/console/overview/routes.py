"""The first page."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from immuproxy.console.answers import API, SOURCES, as_json, as_page
from immuproxy.console.links import with_query
from immuproxy.console.overview import view
from immuproxy.console.overview.figures import RANGES, USUAL_RANGE, Period, TimeRange
from immuproxy.console.parameters import range_of, refuse_unknown
from immuproxy.console.problems import RequestProblem
from immuproxy.console.sources import status_dict


async def overview(request: web.Request) -> web.Response:
    sources, query = request.app[SOURCES], request.query
    asked = {name: query.get(name, "") for name in ("since", "until")}
    chosen, wrong = _chosen(request, sources.clock())
    context = await view.overview(sources, chosen)
    json_href = with_query(f"{API}/overview", **context["range"]["asked"])
    extra = {
        "tiles": tiles(context),
        "empty": not context["recorded"],
        "json_href": json_href,
        "asked": asked,
        "wrong": wrong,
    }
    return await as_page(
        request, "overview/overview.html", context | extra, place="overview", status=wrong.status if wrong else 200
    )


def _chosen(request: web.Request, now: int) -> tuple[TimeRange | Period, RequestProblem | None]:
    """What is to be shown; for a date that makes no sense the usual range, and what is wrong with the date."""
    try:
        return range_of(request.query, now), None
    except RequestProblem as problem:
        if problem.parameter not in {"since", "until"}:
            raise
        return RANGES[USUAL_RANGE], problem


def tiles(context: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures on top of the overview."""
    since = context["range"]["search"]
    return [
        {
            "label": label,
            "tone": tone,
            "shape": shape,
            "search": f"{search} {since}",
            "hint": hint,
            "count": context["totals"][name],
        }
        for name, label, tone, shape, search, hint in _TILES
    ]


_TILES = (
    (
        "accepted",
        "Accepted",
        "good",
        "plus",
        "action:push outcome:created outcome:overwritten",
        "new or allowed to change",
    ),
    ("unchanged", "Unchanged", "calm", "equal", "action:push outcome:unchanged", "pushed again, the same"),
    ("refused", "Refused", "bad", "cross", "action:push outcome:refused", "would have changed a tag"),
    ("shadow", "Would be refused", "warn", "eye", "shadow:yes", "by rules in shadow mode"),
    ("failed", "Failed", "odd", "bang", "action:push outcome:failed", "the registry did not take it"),
    ("drift", "Drift", "warn", "diamond", "action:drift outcome:found", "the registry says otherwise"),
)


"""Name among the totals, label, tone, shape, search and hint of each figure on top of the overview."""


# --- the same as JSON


async def overview_json(request: web.Request) -> web.Response:
    refuse_unknown(request.query, ("range", "since", "until"))
    sources = request.app[SOURCES]
    return as_json(await view.overview(sources, range_of(request.query, sources.clock())))


async def status(request: web.Request) -> web.Response:
    refuse_unknown(request.query, ())
    return as_json(status_dict(request.app[SOURCES].status()))


def add_routes(app: web.Application) -> None:
    """Put this view into the console, as pages and as JSON."""
    app.router.add_get("/", overview)
    app.router.add_get(f"{API}/overview", overview_json)
    app.router.add_get(f"{API}/status", status)
