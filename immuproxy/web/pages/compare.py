"""Two manifests side by side."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from immuproxy.web.answers import API, SOURCES, as_page
from immuproxy.web.links import Image, compare_url, parse_image
from immuproxy.web.parameters import images_of, text_of
from immuproxy.web.problems import Problem
from immuproxy.web.queries import compare as queries

LONGEST = 600
"""Characters of an image's name: a repository, a tag and a digest."""


async def compare(request: web.Request) -> web.Response:
    """What changed from ``a`` to ``b``; with one of them, or none, a form that asks for the other."""
    sources = request.app[SOURCES]
    asked = {name: text_of(request.query, name, LONGEST) for name in ("a", "b")}
    form: dict[str, Any] = {"asked": asked, "compared": None, "wrong": "", "choices": [], "swap_href": ""}
    if not all(asked.values()):
        one = parse_image(asked["a"] or asked["b"], edge=sources.edge)
        form["choices"] = await queries.choices(sources, one.repository) if one else []
        return await as_page(request, "compare.html", form, place="repositories")
    try:
        before, after = images_of(request.query, sources.edge)
        compared = await queries.compare(sources, before, after)
    except Problem as problem:
        wrong = {"wrong": f"{problem.message} {problem.advice}".strip()}
        return await as_page(request, "compare.html", form | wrong, place="repositories", status=problem.status)
    return await as_page(request, "compare.html", form | _links(before, after, compared), place="repositories")


def _links(before: Image, after: Image, compared: dict[str, Any]) -> dict[str, Any]:
    return {
        "asked": {"a": str(before), "b": str(after)},
        "compared": compared,
        "swap_href": compare_url(str(after), str(before)),
        "json_href": compare_url(str(before), str(after), API),
    }


def add_routes(app: web.Application) -> None:
    """Put this page into the console."""
    app.router.add_get("/compare", compare)
