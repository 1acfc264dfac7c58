"""The console put together."""

from __future__ import annotations

import aiohttp_jinja2
from aiohttp import web

from immuproxy.console import long_answers
from immuproxy.console.access import guard
from immuproxy.console.access.authenticators import Authenticator, NoAuthenticator
from immuproxy.console.access.policy import add_headers
from immuproxy.console.answers import SOURCES, say_what_is_wrong
from immuproxy.console.assets import STATIC
from immuproxy.console.routes import add_routes
from immuproxy.console.rules import holdings
from immuproxy.console.sources import Sources
from immuproxy.console.templating import environment
from immuproxy.console.what_if import trials

LARGEST_BODY = 1024 * 1024 + 64 * 1024
"""Bytes of a request; the largest is a form with a rules file of the greatest size that somebody tries out."""

_FOR_EVER = "public, max-age=31536000, immutable"


def make_console(sources: Sources, door: Authenticator | None = None, *, open_metrics: bool = True) -> web.Application:
    """The console's application: pages, JSON API, health and metrics, over ``sources``.

    ``door`` decides who comes in; without one everybody may look, and nobody change anything.  ``open_metrics``:
    ``/metrics`` asks nobody who they are.
    """
    app = web.Application(middlewares=[say_what_is_wrong, guard.admit], client_max_size=LARGEST_BODY)
    app[SOURCES] = sources
    guard.set_up(app, door or NoAuthenticator(), more_open=frozenset({"/metrics"} if open_metrics else ()))
    app[aiohttp_jinja2.APP_KEY] = environment()
    app.on_response_prepare.append(add_headers)
    app.router.add_get("/static/{name}", static)
    add_routes(app)
    holdings.set_up(app)
    trials.set_up(app)
    long_answers.set_up(app)
    return app


async def static(request: web.Request) -> web.Response:
    """A stylesheet, script or picture, by the name it has in the package."""
    asset = STATIC.get(request.match_info["name"])
    if asset is None:
        raise web.HTTPNotFound
    kept = _FOR_EVER if request.query.get("v") == asset.version else "no-cache"
    return web.Response(
        body=asset.body, content_type=asset.content_type, charset="utf-8", headers={"Cache-Control": kept}
    )
