"""One manifest."""

from __future__ import annotations

from aiohttp import web

from immuproxy.audit.search import Search
from immuproxy.console.answers import API, SOURCES, as_json, as_page
from immuproxy.console.links import Place, manifest_url
from immuproxy.console.manifests import view
from immuproxy.console.parameters import refuse_unknown


async def manifest(request: web.Request, place: Place) -> web.Response:
    repository, digest = place.repository, place.reference
    context = await view.manifest(request.app[SOURCES], repository, digest)
    extra = {
        "search": Search().with_term("repo", repository).with_term("digest", digest),
        "json_href": manifest_url(repository, digest, API),
    }
    return await as_page(request, "manifests/manifest.html", context | extra, place="repositories")


# --- the same as JSON


async def manifest_json(request: web.Request, place: Place) -> web.Response:
    refuse_unknown(request.query, ())
    return as_json(await view.manifest(request.app[SOURCES], place.repository, place.reference))
