"""Exceptions: a page that shows them, and two forms that an administrator may send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from immuproxy import permission
from immuproxy.ledger.exceptions import Allows
from immuproxy.ledger.model import Action, Outcome
from immuproxy.web.access import changing, event_by
from immuproxy.web.answers import API, SOURCES, as_page
from immuproxy.web.contexts import exceptions as contexts
from immuproxy.web.links import with_query
from immuproxy.web.parameters import limit_of, text_of
from immuproxy.web.problems import bad_parameter
from immuproxy.web.queries import exceptions as queries

SHOWN = 25
FIELDS = ("tag", "for", "reason", "digest", "allows")
USUAL = {"for": "30m"}
DONE = ("granted", "deletable", "ended")


async def exceptions(request: web.Request) -> web.Response:
    """``tag``, ``digest`` and ``allows`` stand in the form already; ``granted``, ``deletable`` and ``ended`` say what
    was done a moment ago.
    """
    query = request.query
    written = {name: text_of(query, name) for name in ("tag", "digest", "allows")}
    done = {name: text_of(query, name) for name in DONE}
    return await _page(request, USUAL | written, {}, done=done)


async def _page(
    request: web.Request, values: Mapping[str, str], errors: Mapping[str, str], *, done: Mapping[str, str] | None = None
) -> web.Response:
    query = request.query
    cursor, older = query.get("cursor", ""), query.get("history_cursor", "")
    context = await queries.exceptions(
        request.app[SOURCES], limit=limit_of(query, SHOWN, queries.MOST), cursor=cursor, history_cursor=older
    )
    following, oldest = context["next_cursor"], context["history_cursor"]
    extra: dict[str, Any] = {
        **contexts.form_context(values, errors),
        "done": dict.fromkeys(DONE, "") | dict(done or {}),
        "next_href": with_query("/exceptions", cursor=following) if following else "",
        "first_href": "/exceptions" if cursor else "",
        "older_href": f"{with_query('/exceptions', history_cursor=oldest)}#history" if oldest else "",
        "newest_href": "/exceptions#history" if older else "",
        "json_href": f"{API}/exceptions",
    }
    status = web.HTTPBadRequest.status_code if errors else web.HTTPOk.status_code
    return await as_page(request, "exceptions.html", context | extra, place="exceptions", status=status)


async def grant(request: web.Request) -> web.Response:
    """The form: what is unfit is said beside its field, and nothing typed is lost."""
    _, form = await changing(request)
    values = {name: form.text(name, longest=2 * permission.MAX_REASON) for name in FIELDS}
    wish, errors = permission.read_parts(values)
    if wish is None:
        return await _page(request, values, errors)
    event = event_by(request, Action.EXCEPTION, Outcome.GRANTED)
    begun = await queries.grant(request.app[SOURCES], event, wish)
    done = "deletable" if wish.allows is Allows.DELETE else "granted"
    raise web.HTTPSeeOther(with_query("/exceptions", **{done: f"{begun['repository']}:{begun['tag']}"}))


async def end(request: web.Request) -> web.Response:
    """The button beside an exception in force."""
    _, form = await changing(request)
    try:
        repository, tag = permission.read_reference(form.text("tag"))
    except permission.UnfitError as error:
        raise bad_parameter("tag", f"{error}.") from None
    event = event_by(request, Action.EXCEPTION, Outcome.ENDED, repository=repository, tag=tag)
    await queries.end(request.app[SOURCES], event, only=form.text("event"))
    raise web.HTTPSeeOther(with_query("/exceptions", ended=f"{repository}:{tag}"))


def add_routes(app: web.Application) -> None:
    """Put this page and its forms into the console."""
    app.router.add_get("/exceptions", exceptions)
    app.router.add_post("/exceptions", grant)
    app.router.add_post("/exceptions/end", end)
