"""Where the registry shows something else than the ledger holds."""

from __future__ import annotations

from aiohttp import web

from immuproxy.web.answers import API, SOURCES, as_page
from immuproxy.web.links import with_query
from immuproxy.web.parameters import limit_of
from immuproxy.web.queries import drift as queries

SHOWN = 25


async def drift(request: web.Request) -> web.Response:
    query = request.query
    cursor, older = query.get("cursor", ""), query.get("history_cursor", "")
    context = await queries.drift(
        request.app[SOURCES], limit=limit_of(query, SHOWN, queries.MOST), cursor=cursor, history_cursor=older
    )
    following, oldest = context["next_cursor"], context["history_cursor"]
    extra = {
        "next_href": with_query("/drift", cursor=following) if following else "",
        "first_href": "/drift" if cursor else "",
        "older_href": f"{with_query('/drift', history_cursor=oldest)}#history" if oldest else "",
        "newest_href": "/drift#history" if older else "",
        "history_search": queries.HISTORY.to_text(),
        "json_href": f"{API}/drift",
    }
    return await as_page(request, "drift.html", context | extra, place="drift")


def add_routes(app: web.Application) -> None:
    """Put this page into the console."""
    app.router.add_get("/drift", drift)
