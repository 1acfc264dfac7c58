"""Forged requests: those that another site makes a logged-in browser send.

Two walls, and a change must pass both.  The browser says where a request comes from (``Sec-Fetch-Site``, or
``Origin``): it must be this console.  And a form sends back a token that only a page of this viewer holds: signed with
the secret of his session, or where there is none (Basic, a proxy in front) with a key that all proxies share, for his
name and the day.  A change by JSON needs no token: a browser sends ``application/json`` to another site only after
asking (a preflight), and the console never says yes.
"""

from __future__ import annotations

import hmac
import time

from aiohttp import web

from immuproxy.console.access.identity import Visit, visit_of
from immuproxy.console.problems import RequestProblem
from immuproxy.store.sessions import SharedKey

SHARED_KEY: web.AppKey[SharedKey] = web.AppKey("shared_key", SharedKey)
FIELD = "token"
"""The name of the hidden field."""

_DAY = 86_400
_HERE = frozenset({"same-origin", "none"})


def refuse_foreign(request: web.Request, host: str) -> None:
    """Raise `RequestProblem` unless the request comes from a page of this console, or from no browser at all.

    ``host`` is what the client asked for.  ``Sec-Fetch-Site`` decides where there is one: a browser computes it from
    the address that the person sees, also behind a proxy that changes ``Host``.  Else it is ``Origin``, which every
    browser sends with a POST.  No browser sends two of either: then each must be right.
    """
    sites, origins = request.headers.getall("Sec-Fetch-Site", []), request.headers.getall("Origin", [])
    if sites:
        fine = _HERE.issuperset(sites)
    else:
        fine = all(_plain(origin.partition("://")[2]) == _plain(host) != "" for origin in origins)
    if not fine:
        named = " and ".join(filter(None, origins)) or "another site"
        raise RequestProblem(
            403,
            "cross_site",
            "This came from another site",
            f"The request comes from {named}, and this console is {host or 'here'}.",
            "Open the console itself and try again. If a proxy stands in front, it must pass the Host header on.",
        )


def _plain(host: str) -> str:
    """A host as an ``Origin`` spells it: without a usual port."""
    return host.lower().removesuffix(":443").removesuffix(":80")


async def token_of(request: web.Request) -> str:
    """The token for the forms of a page; empty where nobody is known by name."""
    visit = visit_of(request)
    if visit is None or not visit.viewer.name:
        return ""
    return (await _tokens(request, visit))[0]


async def refuse_unsigned(request: web.Request, token: str) -> None:
    """Raise `RequestProblem` unless ``token`` is of this viewer."""
    visit = visit_of(request)
    known = await _tokens(request, visit) if visit and visit.viewer.name else ()
    given = token.encode(errors="replace")
    if not any(hmac.compare_digest(each.encode(), given) for each in known):
        raise RequestProblem(
            403,
            "stale_form",
            "This form is too old",
            "The form was made for another log-in, or a day ago, or by another site. Nothing was changed.",
            "Go back, load the page again, and send it once more.",
        )


async def _tokens(request: web.Request, visit: Visit) -> tuple[str, ...]:
    """The token to give out, and those to accept."""
    if visit.secret:
        return (_signed(visit.secret.encode(), "form"),)
    key = await request.app[SHARED_KEY].read()
    today = int(time.time()) // _DAY
    return tuple(_signed(key, f"{day} {visit.viewer.name}") for day in (today, today - 1))


def _signed(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(errors="surrogateescape"), "sha256").hexdigest()
