"""The rules in force, and why a tag is judged as it is."""

from __future__ import annotations

from aiohttp import web

from immuproxy.console.answers import API, SOURCES, as_json, as_page
from immuproxy.console.parameters import refuse_unknown, tag_of, text_of
from immuproxy.console.problems import RequestProblem
from immuproxy.console.rules import view
from immuproxy.console.rules.holdings import HOLDINGS
from immuproxy.console.what_if.routes import as_proposed


async def rules(request: web.Request) -> web.Response:
    """The rules in force; ``tag`` (``repository:tag``) and ``user`` ask for an explanation."""
    sources, query = request.app[SOURCES], request.query
    asked = {
        "asked_tag": query.get("tag", ""),
        "asked_user": query.get("user", ""),
        "asked_problem": "",
        "explanation": None,
    }
    if asked["asked_tag"]:
        try:
            asked |= view.explain(sources, *tag_of(query), text_of(query, "user"))
        except RequestProblem as problem:
            asked["asked_problem"] = f"{problem.message} {problem.advice}"
    context = await view.rules(sources, request.app[HOLDINGS]) | as_proposed(sources.rules())
    status = 400 if asked["asked_problem"] else 200
    return await as_page(
        request, "rules/rules.html", context | asked | {"json_href": f"{API}/rules"}, place="rules", status=status
    )


# --- the same as JSON


async def rules_json(request: web.Request) -> web.Response:
    refuse_unknown(request.query, ())
    return as_json(await view.rules(request.app[SOURCES], request.app[HOLDINGS]))


async def explain(request: web.Request) -> web.Response:
    refuse_unknown(request.query, ("tag", "user"))
    return as_json(view.explain(request.app[SOURCES], *tag_of(request.query), text_of(request.query, "user")))


def add_routes(app: web.Application) -> None:
    """Put this view into the console, as pages and as JSON."""
    app.router.add_get("/rules", rules)
    app.router.add_get(f"{API}/rules", rules_json)
    app.router.add_get(f"{API}/rules/explain", explain)
