"""Exceptions: a page that shows them, and two forms that an administrator may send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from multidict import MultiDict

from immuproxy.allow import permission
from immuproxy.allow.exceptions import Allows
from immuproxy.console.access import changing, changing_json, deleting, event_by
from immuproxy.console.answers import API, SOURCES, as_json, as_page
from immuproxy.console.exceptions import grants, view
from immuproxy.console.links import with_query
from immuproxy.console.parameters import limit_of, refuse_unknown, text_of
from immuproxy.console.problems import bad_parameter
from immuproxy.ledger.model import Action, Outcome

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
    context = await view.exceptions(
        request.app[SOURCES], limit=limit_of(query, SHOWN, view.MOST), cursor=cursor, history_cursor=older
    )
    following, oldest = context["next_cursor"], context["history_cursor"]
    extra: dict[str, Any] = {
        **grants.form_context(values, errors),
        "done": dict.fromkeys(DONE, "") | dict(done or {}),
        "next_href": with_query("/exceptions", cursor=following) if following else "",
        "first_href": "/exceptions" if cursor else "",
        "older_href": f"{with_query('/exceptions', history_cursor=oldest)}#history" if oldest else "",
        "newest_href": "/exceptions#history" if older else "",
        "json_href": f"{API}/exceptions",
    }
    status = web.HTTPBadRequest.status_code if errors else web.HTTPOk.status_code
    return await as_page(request, "exceptions/exceptions.html", context | extra, place="exceptions", status=status)


async def grant(request: web.Request) -> web.Response:
    """The form: what is unfit is said beside its field, and nothing typed is lost."""
    _, form = await changing(request)
    values = {name: form.text(name, longest=2 * permission.MAX_REASON) for name in FIELDS}
    wish, errors = permission.read_parts(values)
    if wish is None:
        return await _page(request, values, errors)
    event = event_by(request, Action.EXCEPTION, Outcome.GRANTED)
    begun = await view.grant(request.app[SOURCES], event, wish)
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
    await view.end(request.app[SOURCES], event, only=form.text("event"))
    raise web.HTTPSeeOther(with_query("/exceptions", ended=f"{repository}:{tag}"))


# --- the same as JSON


async def exceptions_json(request: web.Request) -> web.Response:
    query = request.query
    refuse_unknown(query, ("limit", "cursor", "history_cursor"))
    return as_json(
        await view.exceptions(
            request.app[SOURCES],
            limit=limit_of(query, view.MOST, view.MOST),
            cursor=query.get("cursor", ""),
            history_cursor=query.get("history_cursor", ""),
        )
    )


async def grant_json(request: web.Request) -> web.Response:
    """201 with the exception."""
    refuse_unknown(request.query, ())
    _, given = await changing_json(request)
    refuse_unknown(MultiDict(given), FIELDS)
    wish, errors = permission.read_parts({name: _text(given, name) for name in FIELDS})
    if wish is None:
        part, message = next(iter(errors.items()))
        raise bad_parameter(part, f"{part}: {message}.")
    event = event_by(request, Action.EXCEPTION, Outcome.GRANTED)
    begun = await view.grant(request.app[SOURCES], event, wish)
    return as_json({"exception": begun}, web.HTTPCreated.status_code)


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise bad_parameter(name, f"{name} is text.")
    return value or ""


async def end_json(request: web.Request) -> web.Response:
    """200 with the exception that ended."""
    query = request.query
    refuse_unknown(query, ("tag", "reason"))
    deleting(request)
    try:
        repository, tag = permission.read_reference(query.get("tag", ""))
        reason = permission.read_reason(query["reason"]) if "reason" in query else ""
    except permission.UnfitError as error:
        raise bad_parameter(error.part, f"{error.part}: {error}.") from None
    event = event_by(request, Action.EXCEPTION, Outcome.ENDED, repository=repository, tag=tag, reason=reason)
    return as_json({"exception": await view.end(request.app[SOURCES], event)})


def add_routes(app: web.Application) -> None:
    """Put this view into the console, as pages and as JSON."""
    app.router.add_get("/exceptions", exceptions)
    app.router.add_post("/exceptions", grant)
    app.router.add_post("/exceptions/end", end)
    app.router.add_get(f"{API}/exceptions", exceptions_json)
    app.router.add_post(f"{API}/exceptions", grant_json)
    app.router.add_delete(f"{API}/exceptions", end_json)
