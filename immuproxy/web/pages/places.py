"""Which page an address below ``/repositories`` leads to, and the comparison of two of them."""

from __future__ import annotations

from aiohttp import web

from immuproxy.web.links import PlaceKind
from immuproxy.web.pages import compare, manifests, repositories, tags
from immuproxy.web.parameters import place_of

_PAGES = {
    PlaceKind.REPOSITORY: repositories.repository,
    PlaceKind.TAG: tags.tag,
    PlaceKind.MANIFEST: manifests.manifest,
}


async def place(request: web.Request) -> web.Response:
    found = place_of(request.rel_url.raw_path)
    return await _PAGES[found.kind](request, found)


def add_routes(app: web.Application) -> None:
    """Put these pages into the console."""
    app.router.add_get("/repositories", repositories.repositories)
    app.router.add_get("/repositories/{place:.+}", place)
    compare.add_routes(app)
