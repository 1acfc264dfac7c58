"""A view's dict as an answer: HTML or JSON, and the one place where what went wrong becomes either."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp_jinja2
import structlog
from aiohttp import web

from immuproxy.audit import IndexDamagedError, IndexFullError, OutOfTimeError
from immuproxy.console.access.identity import visit_of
from immuproxy.console.problems import (
    RequestProblem,
    bad_parameter,
    index_being_built,
    index_cannot_be_written,
    ledger_down,
    not_found,
    overloaded,
    too_slow,
)
from immuproxy.console.reach import is_whole, reach_of
from immuproxy.console.sources import Sources, status_dict
from immuproxy.store.redis import LedgerUnavailableError, ProxyOverloadedError
from immuproxy.values.cursors import BadCursorError

SOURCES: web.AppKey[Sources] = web.AppKey("sources", Sources)
API = "/api/v1"

UNAVAILABLE = (LedgerUnavailableError, IndexDamagedError, OutOfTimeError)
"""What breaks an answer that has begun: Redis does not answer, or the index cannot be asked, or not in time."""

CLIENT_GONE = 499
"""What is counted where a visitor hung up before the answer began."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_log = structlog.get_logger(__name__)

NAVIGATION = (
    ("overview", "/", "Overview", ""),
    ("audit", "/audit", "Audit", "log"),
    ("repositories", "/repositories", "Repositories", ""),
    ("drift", "/drift", "Drift", ""),
    ("exceptions", "/exceptions", "Exceptions", ""),
    ("rules", "/rules", "Rules", ""),
)
"""Name, address, label, and the rest of the label where there is room for it."""


def dumps(value: object) -> str:
    """JSON as the API writes it: readable text stays as it is."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def as_json(context: Mapping[str, Any], status: int = 200) -> web.Response:
    """A view as JSON."""
    return web.json_response(context, status=status, dumps=dumps)


async def as_page(
    request: web.Request, template: str, context: Mapping[str, Any], *, place: str = "", status: int = 200
) -> web.Response:
    """A view as HTML, with the bar on top; ``place`` is the entry of `NAVIGATION` that it belongs to."""
    sources = request.app[SOURCES]
    visit = visit_of(request)  # a stranger, at the log-in page, sees nothing of what is inside
    reach = await _reach(sources, context) if visit else None
    chrome = {
        "viewer": visit.viewer if visit else None,
        "has_session": bool(visit and visit.secret),
        "navigation": NAVIGATION if visit else (),
        "place": place,
        "now": sources.clock(),
        "edge": sources.edge,
        "version": sources.version,
        "json_href": "",
        "problem": None,
        "reach": reach,
        "unsure": reach is not None and not is_whole(reach),
        "status": context.get("status") or (status_dict(sources.status()) if visit else None),
    }
    return aiohttp_jinja2.render_template(template, request, chrome | dict(context), status=status)


async def _reach(sources: Sources, context: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What is said on top of the view; nothing where the view itself is about what does not answer."""
    if "error" in context and context["error"].status == web.HTTPServiceUnavailable.status_code:
        return None
    return context.get("index") or await reach_of(sources)


def problem_of(error: Exception) -> RequestProblem:
    """Any exception as what is to be said about it."""
    match error:
        case RequestProblem():
            return error
        case LedgerUnavailableError() | IndexDamagedError() | OutOfTimeError():
            return _unavailable(error)
        case BadCursorError():
            message = "This cursor was not given out by the audit."
            return bad_parameter("cursor", message, "Leave the cursor out to begin with the newest.")
        case web.HTTPException():
            return _http_problem(error)
        case web.RequestPayloadError():
            return bad_parameter("", "The body cannot be read: it broke off, or is not compressed as it says.")
        case _:
            message = "This could not be answered. The reason is in the proxy's log."
            return RequestProblem(500, "internal_error", "Something is broken in the proxy", message)


def _unavailable(error: Exception) -> RequestProblem:
    if isinstance(error, LedgerUnavailableError):
        return overloaded() if isinstance(error, ProxyOverloadedError) else ledger_down(str(error))
    if isinstance(error, IndexFullError):
        return index_cannot_be_written(str(error))
    if isinstance(error, OutOfTimeError):
        return too_slow(str(error))
    return index_being_built(f"What Redis records cannot be searched at this moment: {str(error).rstrip('.')}.")


def _http_problem(error: web.HTTPException) -> RequestProblem:
    match error:
        case web.HTTPNotFound():
            return not_found("There is nothing at this address.")
        case web.HTTPRequestEntityTooLarge():
            return RequestProblem(413, "too_large", "Too large", "This request holds more than the console reads.")
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            return RequestProblem(405, "method_not_allowed", "Not allowed", f"This address answers to {allowed} only.")
        case _:
            return RequestProblem(error.status, "http_error", error.reason, f"{error.reason}.")


@web.middleware
async def say_what_is_wrong(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what went wrong into a page, or into JSON under the API."""
    try:
        return await handler(request)
    except web.HTTPRedirection:
        raise
    except ConnectionResetError:  # nobody is there to be told, and it is nobody's fault
        return web.Response(status=CLIENT_GONE)
    except Exception as error:  # noqa: BLE001  # the one exit: whatever it is, the visitor is told
        problem = problem_of(error)
        if problem.status == web.HTTPInternalServerError.status_code:
            _log.exception("console_failed", path=request.path)
        response = await _said(request, problem)
        response.headers.update(problem.headers)
        if isinstance(error, web.HTTPMethodNotAllowed):
            response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        return response


async def _said(request: web.Request, problem: RequestProblem) -> web.Response:
    if request.path.startswith(f"{API}/"):
        return as_json(problem.to_dict(), problem.status)
    return await as_page(request, "error.html", {"error": problem}, status=problem.status)
