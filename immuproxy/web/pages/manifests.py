"""One manifest."""

from __future__ import annotations

from aiohttp import web

from immuproxy.audit.search import Search
from immuproxy.web.answers import API, SOURCES, as_page
from immuproxy.web.links import Place, manifest_url
from immuproxy.web.queries import manifests as queries


async def manifest(request: web.Request, place: Place) -> web.Response:
    repository, digest = place.repository, place.reference
    context = await queries.manifest(request.app[SOURCES], repository, digest)
    extra = {
        "search": Search().with_term("repo", repository).with_term("digest", digest),
        "json_href": manifest_url(repository, digest, API),
    }
    return await as_page(request, "manifest.html", context | extra, place="repositories")
