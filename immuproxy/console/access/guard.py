"""The one place that every request of the console passes: nothing is shown before it is known who asks.

What is open to strangers is a property of the route that a request was matched to, not of how its path is spelt; a path
that matches nothing is closed like a page.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

from aiohttp import web

from immuproxy.console.access.authenticators import Authenticator, NoAuthenticator
from immuproxy.console.access.identity import VISIT, Visit
from immuproxy.console.access.log_ins import challenge
from immuproxy.console.access.returning import log_in_url
from immuproxy.console.problems import RequestProblem
from immuproxy.store.redis import LedgerUnavailableError

OPEN = frozenset({"/healthz", "/readyz", "/static/{name}", "/log-in"})
"""Routes that strangers may use, too: machines that watch have no password, and the log-in page needs its style."""

RECHECKED = 15.0
"""Seconds after which it is looked at again whether a long answer (a live tail, an export) may go on."""

API = "/api/"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
DOOR: web.AppKey[Authenticator] = web.AppKey("door", Authenticator)
OPEN_ROUTES: web.AppKey[set[str]] = web.AppKey("open_routes", set[str])


def set_up(app: web.Application, door: Authenticator, *, more_open: frozenset[str] = frozenset()) -> None:
    """Put a door before the console; `admit` must be among its middlewares."""
    app[DOOR] = door
    app[OPEN_ROUTES] = set(OPEN | more_open)


def leave_open(app: web.Application, route: str) -> None:
    """Let strangers use one more route: its path as it was added to the router."""
    app[OPEN_ROUTES].add(route)


def is_closed(app: web.Application) -> bool:
    """Whether this console asks who somebody is."""
    return not isinstance(app[DOOR], NoAuthenticator)


@web.middleware
async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Find out who asks, and let them in, send them to the log-in page, or refuse."""
    resource = request.match_info.route.resource
    if resource is not None and resource.canonical in request.app[OPEN_ROUTES]:
        return await handler(request)
    door = request.app[DOOR]
    try:
        visit = await door.visit(request)
    except LedgerUnavailableError:
        raise nobody_gets_in() from None
    if visit is None:
        return _unknown(request, door)
    request[VISIT] = visit
    watch = _Watch(request, door, visit)
    try:
        return await handler(request)
    finally:
        watch.end()


def nobody_gets_in() -> RequestProblem:
    """Redis is away.  What is wrong with it is for the log, not for strangers."""
    return RequestProblem(
        503,
        "ledger_unavailable",
        "Nobody can be let in now",
        "Who is logged in is kept in Redis, and Redis does not answer.",
        "Pulls go on. Load this page again in a moment; the reason is in the proxy's log.",
        links=(),
    )


def _unknown(request: web.Request, door: Authenticator) -> web.Response:
    """A page leads to the log-in, which leads back; a program is told what is missing."""
    looks = request.method in {"GET", "HEAD"} and not request.path.startswith(API)
    if door.challenge and looks and "Authorization" not in request.headers:
        there = log_in_url(request.rel_url.raw_path_qs)
        return web.Response(status=303, headers={"Location": there})
    told = door.challenge if door.challenge and "Sec-Fetch-Mode" not in request.headers else "Session"
    raise RequestProblem(
        401,
        "not_logged_in",
        "You are not logged in",
        "This needs to know who asks." if door.challenge else "The proxy in front named nobody.",
        "Log in, or send a name and a password by HTTP Basic." if door.challenge else "",
        links=(("/log-in", "Log in"),) if door.challenge else (),
        headers=(challenge(told),),
    )


class _Watch:
    """Cuts the connection of a long answer when its viewer's session ends; for a short one nothing is started."""

    def __init__(self, request: web.Request, door: Authenticator, visit: Visit) -> None:
        """Look for the first time after a while."""
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(RECHECKED, self._begin, request, door, visit)

    def _begin(self, request: web.Request, door: Authenticator, visit: Visit) -> None:
        self._task = self._loop.create_task(_cut_when_over(request, door, visit))

    def end(self) -> None:
        """The answer is finished."""
        self._timer.cancel()
        if self._task:
            self._task.cancel()


async def _cut_when_over(request: web.Request, door: Authenticator, visit: Visit) -> None:
    holds = True
    while holds:
        with suppress(LedgerUnavailableError):
            holds = await door.still(visit)
        await asyncio.sleep(RECHECKED if holds else 0)
    if request.transport is not None:
        request.transport.abort()


def following(work: Callable[[], Awaitable[None]]) -> Callable[[web.Application], AsyncIterator[None]]:
    """Background work of the console, as one of its cleanup contexts."""

    async def context(_app: web.Application) -> AsyncIterator[None]:
        task = asyncio.ensure_future(work())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    return context
