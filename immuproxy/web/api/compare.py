"""Two manifests side by side."""

from __future__ import annotations

from aiohttp import web

from immuproxy.web.answers import API, SOURCES, as_json
from immuproxy.web.parameters import images_of, refuse_unknown
from immuproxy.web.queries import compare as queries


async def compare(request: web.Request) -> web.Response:
    refuse_unknown(request.query, ("a", "b"))
    sources = request.app[SOURCES]
    return as_json(await queries.compare(sources, *images_of(request.query, sources.edge)))


def add_routes(app: web.Application) -> None:
    """Put this answer into the API."""
    app.router.add_get(f"{API}/compare", compare)
