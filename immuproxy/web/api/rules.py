"""The rules in force, and why a tag is judged as it is."""

from __future__ import annotations

from aiohttp import web

from immuproxy.web.answers import API, SOURCES, as_json
from immuproxy.web.holdings import HOLDINGS
from immuproxy.web.parameters import (
    refuse_unknown,
    tag_of,
    text_of,
)
from immuproxy.web.queries import rules as queries


async def rules(request: web.Request) -> web.Response:
    refuse_unknown(request.query, ())
    return as_json(await queries.rules(request.app[SOURCES], request.app[HOLDINGS]))


async def explain(request: web.Request) -> web.Response:
    refuse_unknown(request.query, ("tag", "user"))
    return as_json(queries.explain(request.app[SOURCES], *tag_of(request.query), text_of(request.query, "user")))


def add_routes(app: web.Application) -> None:
    """Put these answers into the API."""
    app.router.add_get(f"{API}/rules", rules)
    app.router.add_get(f"{API}/rules/explain", explain)
