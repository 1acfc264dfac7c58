"""Where the registry shows something else than the ledger holds."""

from __future__ import annotations

from aiohttp import web

from immuproxy.console.answers import API, SOURCES, as_json, as_page
from immuproxy.console.drift import view
from immuproxy.console.links import with_query
from immuproxy.console.parameters import limit_of, refuse_unknown

SHOWN = 25


async def drift(request: web.Request) -> web.Response:
    query = request.query
    cursor, older = query.get("cursor", ""), query.get("history_cursor", "")
    context = await view.drift(
        request.app[SOURCES], limit=limit_of(query, SHOWN, view.MOST), cursor=cursor, history_cursor=older
    )
    following, oldest = context["next_cursor"], context["history_cursor"]
    extra = {
        "next_href": with_query("/drift", cursor=following) if following else "",
        "first_href": "/drift" if cursor else "",
        "older_href": f"{with_query('/drift', history_cursor=oldest)}#history" if oldest else "",
        "newest_href": "/drift#history" if older else "",
        "history_search": view.HISTORY.to_text(),
        "json_href": f"{API}/drift",
    }
    return await as_page(request, "drift/drift.html", context | extra, place="drift")


# --- the same as JSON


async def drift_json(request: web.Request) -> web.Response:
    query = request.query
    refuse_unknown(query, ("limit", "cursor", "history_cursor"))
    return as_json(
        await view.drift(
            request.app[SOURCES],
            limit=limit_of(query, view.MOST, view.MOST),
            cursor=query.get("cursor", ""),
            history_cursor=query.get("history_cursor", ""),
        )
    )


def add_routes(app: web.Application) -> None:
    """Put this view into the console, as pages and as JSON."""
    app.router.add_get("/drift", drift)
    app.router.add_get(f"{API}/drift", drift_json)
