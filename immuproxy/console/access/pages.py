"""Logging in and out, and who one is."""

from __future__ import annotations

from aiohttp import web

from immuproxy.console.access import cookies, csrf
from immuproxy.console.access.authenticators import PasswordAuthenticator
from immuproxy.console.access.changes import read_form
from immuproxy.console.access.guard import DOOR, following, nobody_gets_in
from immuproxy.console.access.identity import VISIT, viewer_of
from immuproxy.console.access.log_ins import LogInAttempt
from immuproxy.console.access.reached import reached
from immuproxy.console.access.returning import local_or_home
from immuproxy.console.answers import API, as_json, as_page
from immuproxy.console.parameters import refuse_unknown
from immuproxy.console.problems import RequestProblem
from immuproxy.store.redis import LedgerUnavailableError

LARGEST_FORM = 64 * 1024
"""Bytes that a stranger may send."""

LONGEST_FIELD = 1_000
"""Characters of a name or password; whoever sends more does not log in."""


async def viewer(request: web.Request) -> web.Response:
    """Who asks, and as what."""
    refuse_unknown(request.query, ())
    return as_json(viewer_of(request).to_dict())


class LogInPages:
    """The pages of a console that asks for passwords."""

    def __init__(self, door: PasswordAuthenticator) -> None:
        """``door`` is the one before this console."""
        self._door = door

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The form; whoever is logged in goes on at once."""
        there = local_or_home(request.query.get("next", ""))
        way = reached(request, self._door.trusted)
        try:
            if await self._door.of_session(cookies.read(request, way), way):
                return _go(there)
        except LedgerUnavailableError:
            pass  # the form says so when it is sent
        return await _form(request, there)

    async def log_in(self, request: web.Request) -> web.StreamResponse:
        """Let a good password in; what is wrong is said above the form, with the name still in it."""
        way = reached(request, self._door.trusted)
        csrf.refuse_foreign_form(request, way)
        form = await read_form(request.clone(client_max_size=LARGEST_FORM))
        name, password = (form.fields.get(key, "")[: LONGEST_FIELD + 1] for key in ("name", "password"))
        there = local_or_home(form.fields.get("next", ""))
        try:
            secret = await self._door.log_in(LogInAttempt(name.strip(), password, way), cookies.read(request, way))
        except RequestProblem as problem:
            return await _form(request, there, problem=problem, name=name)
        except LedgerUnavailableError:
            return await _form(request, there, problem=nobody_gets_in(), name=name)
        response = _go(there)
        cookies.put(response, way, secret)
        return response

    async def log_out(self, request: web.Request) -> web.StreamResponse:
        """End the session everywhere."""
        visit = request[VISIT]
        csrf.refuse_foreign_form(request, visit.reached)
        await self._door.log_out(visit)
        response = _go("/log-in?out")
        cookies.take_away(response, visit.reached)
        return response


async def _form(
    request: web.Request, there: str, *, problem: RequestProblem | None = None, name: str = ""
) -> web.StreamResponse:
    context = {"there": there, "wrong": problem, "name": name, "left": "out" in request.query}
    response = await as_page(request, "access/log_in.html", context, status=problem.status if problem else 200)
    response.headers.update(problem.headers if problem else ())
    return response


def _go(there: str) -> web.Response:
    """To a path that `returning` has found to be local, or that stands here."""
    return web.Response(status=303, headers={"Location": there})


def add_routes(app: web.Application) -> None:
    """Put these pages into the console, as far as its door has them."""
    app.router.add_get(f"{API}/viewer", viewer)
    door = app[DOOR]
    if isinstance(door, PasswordAuthenticator):
        pages = LogInPages(door)
        app.router.add_get("/log-in", pages.show)
        app.router.add_post("/log-in", pages.log_in)
        app.router.add_post("/log-out", pages.log_out)
        app.cleanup_ctx.append(following(door.follow))
