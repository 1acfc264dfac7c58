"""The cookie of a session.

By TLS it is named ``__Host-…``: a browser takes such a cookie only from this host, for all of it, and by TLS, so
neither a sister domain nor somebody on a plain connection can plant one.
"""

from __future__ import annotations

from aiohttp import web

from immuproxy.console.access.reached import Reached

PLAIN = "immuproxy"
BY_TLS = "__Host-immuproxy"


def read(request: web.BaseRequest, reached: Reached) -> str:
    """The secret that the browser sent, or nothing; by TLS the plain name does not count."""
    return request.cookies.get(_name(reached), "")


def put(response: web.StreamResponse, reached: Reached, secret: str) -> None:
    """Give the browser a secret.

    ``Lax``: a link to a search that somebody sends still finds its reader logged in; a form of another site does not.
    """
    response.set_cookie(_name(reached), secret, path="/", httponly=True, samesite="Lax", secure=reached.secure)


def take_away(response: web.StreamResponse, reached: Reached) -> None:
    """Let the browser forget it."""
    response.del_cookie(_name(reached), path="/", httponly=True, samesite="Lax", secure=reached.secure)


def _name(reached: Reached) -> str:
    return BY_TLS if reached.secure else PLAIN
