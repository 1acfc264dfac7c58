"""The rules in force, and why a tag is judged as it is."""

from __future__ import annotations

from aiohttp import web

from immuproxy.web.answers import API, SOURCES, as_page
from immuproxy.web.holdings import HOLDINGS
from immuproxy.web.pages.what_if import as_proposed
from immuproxy.web.parameters import tag_of, text_of
from immuproxy.web.problems import Problem
from immuproxy.web.queries import rules as queries


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
            asked |= queries.explain(sources, *tag_of(query), text_of(query, "user"))
        except Problem as problem:
            asked["asked_problem"] = f"{problem.message} {problem.advice}"
    context = await queries.rules(sources, request.app[HOLDINGS]) | as_proposed(sources.rules())
    status = 400 if asked["asked_problem"] else 200
    return await as_page(
        request, "rules.html", context | asked | {"json_href": f"{API}/rules"}, place="rules", status=status
    )


def add_routes(app: web.Application) -> None:
    """Put these pages into the console."""
    app.router.add_get("/rules", rules)
