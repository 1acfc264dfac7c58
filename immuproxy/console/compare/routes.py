"""Two manifests side by side."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from immuproxy.console.answers import API, SOURCES, as_json, as_page
from immuproxy.console.compare import view
from immuproxy.console.links import ImageName, compare_url, parse_image
from immuproxy.console.parameters import images_of, refuse_unknown, text_of
from immuproxy.console.problems import RequestProblem

LONGEST = 600
"""Characters of an image's name: a repository, a tag and a digest."""


async def compare(request: web.Request) -> web.Response:
    """What changed from ``a`` to ``b``; with one of them, or none, a form that asks for the other."""
    sources = request.app[SOURCES]
    asked = {name: text_of(request.query, name, LONGEST) for name in ("a", "b")}
    form: dict[str, Any] = {"asked": asked, "compared": None, "wrong": "", "choices": [], "swap_href": ""}
    if not all(asked.values()):
        one = parse_image(asked["a"] or asked["b"], edge=sources.edge)
        form["choices"] = await view.choices(sources, one.repository) if one else []
        return await as_page(request, "compare/compare.html", form, place="repositories")
    try:
        before, after = images_of(request.query, sources.edge)
        compared = await view.compare(sources, before, after)
    except RequestProblem as problem:
        wrong = {"wrong": f"{problem.message} {problem.advice}".strip()}
        return await as_page(request, "compare/compare.html", form | wrong, place="repositories", status=problem.status)
    return await as_page(request, "compare/compare.html", form | _links(before, after, compared), place="repositories")


def _links(before: ImageName, after: ImageName, compared: dict[str, Any]) -> dict[str, Any]:
    return {
        "asked": {"a": str(before), "b": str(after)},
        "compared": compared,
        "swap_href": compare_url(str(after), str(before)),
        "json_href": compare_url(str(before), str(after), API),
    }


# --- the same as JSON


async def compare_json(request: web.Request) -> web.Response:
    refuse_unknown(request.query, ("a", "b"))
    sources = request.app[SOURCES]
    return as_json(await view.compare(sources, *images_of(request.query, sources.edge)))


def add_routes(app: web.Application) -> None:
    """Put this view into the console, as pages and as JSON."""
    app.router.add_get("/compare", compare)
    app.router.add_get(f"{API}/compare", compare_json)
