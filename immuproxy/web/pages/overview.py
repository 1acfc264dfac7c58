"""The first page."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from immuproxy.web.answers import API, SOURCES, as_page
from immuproxy.web.links import with_query
from immuproxy.web.parameters import range_of
from immuproxy.web.queries import overview as queries


async def overview(request: web.Request) -> web.Response:
    sources = request.app[SOURCES]
    context = await queries.overview(sources, range_of(request.query, sources.clock()))
    json_href = with_query(f"{API}/overview", **context["range"]["asked"])
    extra = {"tiles": tiles(context), "empty": not context["recorded"], "json_href": json_href}
    return await as_page(request, "overview.html", context | extra, place="overview")


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


def add_routes(app: web.Application) -> None:
    """Put these pages into the console."""
    app.router.add_get("/", overview)
