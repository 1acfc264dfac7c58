"""Which view an address below ``/repositories`` leads to: names of repositories have slashes of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from immuproxy.console.answers import API
from immuproxy.console.links import Place, PlaceKind
from immuproxy.console.manifests.routes import manifest, manifest_json
from immuproxy.console.parameters import place_of
from immuproxy.console.repositories.routes import repository, repository_json
from immuproxy.console.tags.routes import tag, tag_json

View = Callable[[web.Request, Place], Awaitable[web.Response]]

_PAGES: Mapping[PlaceKind, View] = {
    PlaceKind.REPOSITORY: repository,
    PlaceKind.TAG: tag,
    PlaceKind.MANIFEST: manifest,
}
_JSON: Mapping[PlaceKind, View] = {
    PlaceKind.REPOSITORY: repository_json,
    PlaceKind.TAG: tag_json,
    PlaceKind.MANIFEST: manifest_json,
}


async def place(request: web.Request) -> web.Response:
    found = place_of(request.rel_url.raw_path)
    return await _PAGES[found.kind](request, found)


async def place_json(request: web.Request) -> web.Response:
    found = place_of(request.rel_url.raw_path)
    return await _JSON[found.kind](request, found)


def add_routes(app: web.Application) -> None:
    """Put these addresses into the console."""
    app.router.add_get("/repositories/{place:.+}", place)
    app.router.add_get(f"{API}/repositories/{{place:.+}}", place_json)
