"""Exceptions."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from multidict import MultiDict

from immuproxy import permission
from immuproxy.ledger.model import Action, Outcome
from immuproxy.web.access import administrator_of, changing_json, event_by, visit_of
from immuproxy.web.access.forgery import refuse_foreign
from immuproxy.web.answers import API, SOURCES, as_json
from immuproxy.web.parameters import limit_of, refuse_unknown
from immuproxy.web.problems import bad_parameter
from immuproxy.web.queries import exceptions as queries

FIELDS = ("tag", "for", "reason", "digest", "allows")


async def exceptions(request: web.Request) -> web.Response:
    query = request.query
    refuse_unknown(query, ("limit", "cursor", "history_cursor"))
    return as_json(
        await queries.exceptions(
            request.app[SOURCES],
            limit=limit_of(query, queries.MOST, queries.MOST),
            cursor=query.get("cursor", ""),
            history_cursor=query.get("history_cursor", ""),
        )
    )


async def grant(request: web.Request) -> web.Response:
    """201 with the exception."""
    refuse_unknown(request.query, ())
    _, given = await changing_json(request)
    refuse_unknown(MultiDict(given), FIELDS)
    wish, errors = permission.read_parts({name: _text(given, name) for name in FIELDS})
    if wish is None:
        part, message = next(iter(errors.items()))
        raise bad_parameter(part, f"{part}: {message}.")
    event = event_by(request, Action.EXCEPTION, Outcome.GRANTED)
    begun = await queries.grant(request.app[SOURCES], event, wish)
    return as_json({"exception": begun}, web.HTTPCreated.status_code)


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise bad_parameter(name, f"{name} is text.")
    return value or ""


async def end(request: web.Request) -> web.Response:
    """200 with the exception that ended."""
    query = request.query
    refuse_unknown(query, ("tag", "reason"))
    _only_administrators(request)
    try:
        repository, tag = permission.read_reference(query.get("tag", ""))
        reason = permission.read_reason(query["reason"]) if "reason" in query else ""
    except permission.UnfitError as error:
        raise bad_parameter(error.part, f"{error.part}: {error}.") from None
    event = event_by(request, Action.EXCEPTION, Outcome.ENDED, repository=repository, tag=tag, reason=reason)
    return as_json({"exception": await queries.end(request.app[SOURCES], event)})


def _only_administrators(request: web.Request) -> None:
    """No form can send a DELETE, and no other site may: a browser asks the console first, which never says yes."""
    administrator_of(request)
    visit = visit_of(request)
    refuse_foreign(request, visit.reached.host if visit else "")


def add_routes(app: web.Application) -> None:
    """Put these answers into the API."""
    app.router.add_get(f"{API}/exceptions", exceptions)
    app.router.add_post(f"{API}/exceptions", grant)
    app.router.add_delete(f"{API}/exceptions", end)
