"""The three ways into the console: open to all who reach it, by password, or named by a proxy in front.

A door finds the visit of a request, or says that nobody is known (None), or raises `RequestProblem`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from aiohttp import web

from immuproxy.console.access import cookies
from immuproxy.console.access.basic import Remembered, read_basic
from immuproxy.console.access.identity import Role, Viewer, Visit
from immuproxy.console.access.log_ins import LogInAttempt, LogIns, challenge
from immuproxy.console.access.passwords import Passwords
from immuproxy.console.access.reached import Reached, reached
from immuproxy.console.problems import RequestProblem
from immuproxy.console.settings import ConsoleAuth
from immuproxy.store.sessions import Session, Sessions
from immuproxy.values.networks import Network, is_trusted
from immuproxy.values.text import MAX_SHOWN


class Authenticator(Protocol):
    """One way in."""

    @property
    def trusted(self) -> Sequence[Network]:
        """Proxies in front, whose word on address, host and TLS counts."""

    @property
    def challenge(self) -> str:
        """The scheme that a program is asked for with a 401."""

    async def visit(self, request: web.Request) -> Visit | None:
        """Who comes; None where nobody is known."""

    async def still(self, visit: Visit) -> bool:
        """Whether the visit of a long answer holds on."""


class NoAuthenticator:
    """Everybody who reaches the console looks; nobody changes anything."""

    trusted: Sequence[Network] = ()
    challenge = ""

    async def visit(self, request: web.Request) -> Visit:
        """Somebody."""
        return Visit(Viewer(), reached(request, ()))

    async def still(self, visit: Visit) -> bool:  # noqa: ARG002  # open is open
        """Always."""
        return True


class HeaderAuthenticator:
    """A proxy in front has asked who it is, and says so in a header."""

    challenge = ""

    def __init__(self, auth: ConsoleAuth) -> None:
        """``auth`` names the header."""
        self.trusted = auth.trusted_proxies
        self._header = auth.identity_header or ""
        self._groups = auth.groups_header or ""
        self._administrators = frozenset(auth.administrators)
        self._administering = frozenset(auth.administrator_groups)

    async def visit(self, request: web.Request) -> Visit | None:
        """Who is named.  Whatever comes from elsewhere, or says two things, is refused."""
        way = reached(request, self.trusted)
        if not is_trusted(way.peer, self.trusted):
            raise RequestProblem(
                403,
                "not_through_proxy",
                "Not this way",
                "This console answers only through the proxy that logs people in.",
                "Open it at the address of that proxy. Its own address must be in console.auth.trusted_proxies.",
                links=(),
            )
        name = self._one(request, self._header).strip()
        if not name:
            return None
        if not name.isprintable() or len(name) > MAX_SHOWN:
            raise _ambiguous(self._header)
        groups = {group.strip() for group in self._one(request, self._groups).split(",")} if self._groups else set()
        administers = name in self._administrators or bool((groups - {""}) & self._administering)
        return Visit(Viewer(name, Role.ADMINISTRATOR if administers else Role.VIEWER), way)

    async def still(self, visit: Visit) -> bool:  # noqa: ARG002  # the proxy in front ends it
        """As long as the proxy keeps the connection."""
        return True

    def _one(self, request: web.Request, header: str) -> str:
        """A proxy that adds its header beside the client's, instead of in its place, lets everybody take any name."""
        values = request.headers.getall(header, [])
        if len(values) > 1:
            raise _ambiguous(header)
        return values[0] if values else ""


def _ambiguous(header: str) -> RequestProblem:
    return RequestProblem(
        403,
        "ambiguous_identity",
        "It is not clear who asks",
        f"The header {header} came twice, or holds no name.",
        "The proxy in front must replace whatever a client sends under this name.",
        links=(),
    )


class PasswordAuthenticator:
    """Names and passwords: a session for browsers, HTTP Basic for programs."""

    challenge = "Basic"

    def __init__(
        self,
        auth: ConsoleAuth,
        *,
        passwords: Passwords,
        log_ins: LogIns,
        sessions: Sessions,
        clock: Callable[[], int],
    ) -> None:
        """``clock`` gives milliseconds."""
        self.trusted = auth.trusted_proxies
        self._administrators = frozenset(auth.administrators)
        self._passwords = passwords
        self._log_ins = log_ins
        self._sessions = sessions
        self._clock = clock
        self._remembered = Remembered()

    async def visit(self, request: web.Request) -> Visit | None:
        """Who comes with an ``Authorization``, which alone counts then, or with a session."""
        way = reached(request, self.trusted)
        given = request.headers.getall("Authorization", [])
        if given:
            return await self._by_basic(read_basic(given[0]) if len(given) == 1 else None, way)
        return await self.of_session(cookies.read(request, way), way)

    async def of_session(self, secret: str, way: Reached, *, used: bool = True) -> Visit | None:
        """The visit that a session's secret stands for.

        A session holds as long as the user's line in the file is the one that they logged in with.
        """
        found = await self._sessions.find(secret, self._clock(), used=used)
        if found is None or found.line != self._passwords.users.line(found.user):
            return None
        return Visit(self._viewer(found.user), way, secret, found.line)

    async def _by_basic(self, credential: tuple[str, str] | None, way: Reached) -> Visit | None:
        if credential is None:
            return None
        name, password = credential
        line = self._passwords.users.line(name)
        if not (line and self._remembered.knows(name, password, line, way.network)):
            line = await self._checked(LogInAttempt(name, password, way))
            self._remembered.add(name, password, line, way.network)
        return Visit(self._viewer(name), way, line=line)

    async def _checked(self, attempt: LogInAttempt) -> str:
        try:
            return await self._log_ins.check(attempt)
        except RequestProblem as problem:
            if problem.status != 401:
                raise
            raise replace(problem, headers=(challenge(self.challenge),)) from None

    def _viewer(self, name: str) -> Viewer:
        return Viewer(name, Role.ADMINISTRATOR if name in self._administrators else Role.VIEWER)

    async def still(self, visit: Visit) -> bool:
        """Whether the session has not ended, and the user's line is the same."""
        if visit.secret:
            return await self.of_session(visit.secret, visit.reached, used=False) is not None
        return self._passwords.users.line(visit.viewer.name) == visit.line

    async def log_in(self, attempt: LogInAttempt, before: str) -> str:
        """Begin a session, always a new one, and end the one ``before``; returns its secret.

        Raises `RequestProblem`.
        """
        line = await self._log_ins.check(attempt)
        await self._sessions.end(before)
        return await self._sessions.begin(Session(attempt.name, line, self._clock()))

    async def log_out(self, visit: Visit) -> None:
        """End the session, on every proxy."""
        if visit.secret and await self._sessions.end(visit.secret):
            await self._log_ins.ended(visit.viewer.name, visit.reached)

    async def follow(self) -> None:
        """Keep up with the users file for ever; cancel it to stop."""
        await self._passwords.follow()
