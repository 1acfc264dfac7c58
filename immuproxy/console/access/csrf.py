"""Forged requests: those that another site makes a browser send, with all by which that browser is known here.

The browser itself says where a request comes from, in ``Sec-Fetch-Site`` or ``Origin``, which no page can write: that
must be this console.  There is no token in the forms, as these headers alone decide.

**A form must have one of them**, and so must the log-in, whatever proves who sends it.  Every browser of today writes
``Origin`` on each POST, so what has neither comes from none, or something on the way has taken it out, and then nobody
can tell.  A session's cookie is ``SameSite=Lax``, which a sister host (``other.example`` beside ``console.example``) or
another port is let past; HTTP Basic that a browser remembers, and the name that a proxy in front puts on, go along with
the forms of every site.

**JSON, YAML and DELETE** may come without: a browser sends these to another site only after asking (a preflight), and
the console never says yes.  So programs need no such header, but one that is there must be right.
"""

from __future__ import annotations

from aiohttp import web

from immuproxy.console.access.reached import Reached
from immuproxy.console.problems import RequestProblem

SITE, ORIGIN = "Sec-Fetch-Site", "Origin"

_HERE = frozenset({"same-origin", "none"})
"""``none``: somebody at the browser itself asked, as by loading a page again."""


def refuse_foreign_form(request: web.BaseRequest, reached: Reached) -> None:
    """Raise `RequestProblem` (403) unless a browser says that the form is on a page of this console."""
    if SITE not in request.headers and ORIGIN not in request.headers:
        raise _cross_site(
            f"A form says in {ORIGIN} or {SITE} on which site it is, and this one does not. Nothing was changed.",
            "Every current browser does; a proxy in front must pass these headers on. Programs send JSON.",
        )
    refuse_foreign(request, reached)


def refuse_foreign(request: web.BaseRequest, reached: Reached) -> None:
    """Raise `RequestProblem` (403) where a browser says that another site made it send this.

    ``Sec-Fetch-Site`` decides where there is one: a browser computes it from the address that the person sees, also
    behind a proxy that changes ``Host``.  It is sent by TLS and to loopback only; elsewhere it is ``Origin``.  No
    browser sends two of either: then each must be right.
    """
    sites, origins = request.headers.getall(SITE, []), request.headers.getall(ORIGIN, [])
    fine = _HERE.issuperset(sites) if sites else all(_is_here(origin, reached) for origin in origins)
    if not fine:
        named = " and ".join(filter(None, origins)) or "another site"
        raise _cross_site(
            f"The request comes from {named}, and this console is {reached.host or 'here'}.",
            "Open the console itself and try again. If a proxy stands in front, it must pass the Host header on.",
        )


def _is_here(origin: str, reached: Reached) -> bool:
    """Whether a page of that origin is one of ours; where clients come by TLS, no page without it is."""
    scheme, _, host = origin.lower().partition("://")
    known = scheme == "https" or (scheme == "http" and not reached.secure)
    return known and _plain(host) == _plain(reached.host) != ""


def _plain(host: str) -> str:
    """A host as an ``Origin`` spells it: without a usual port."""
    return host.lower().removesuffix(":443").removesuffix(":80")


def _cross_site(message: str, advice: str) -> RequestProblem:
    return RequestProblem(403, "cross_site", "This came from another site", message, advice)
