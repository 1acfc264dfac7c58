"""The proxy's own account at an upstream that hands out Bearer tokens.

Where no client stands behind a request (sweep, healing, `import`, `verify`), the proxy does what a client would: it
reads the challenge, fetches a token from the realm with its own name and password, and asks again.  A request that was
answered 401 had no effect, so it may be sent a second time.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus

import aiohttp
from cachetools import FIFOCache
from multidict import CIMultiDict
from yarl import URL

from immuproxy.edge.answers import Answer
from immuproxy.edge.push.payload import DeadlinePayload
from immuproxy.edge.upstream import Upstream, UpstreamUnavailableError
from immuproxy.oci import routes

DEFAULT_SECONDS = 60
"""What a token lasts where its server does not say (token specification, "expires_in")."""

MARGIN = 5.0
"""Seconds before its end at which a token is no longer used."""

MAX_TOKENS = 1000

_CHALLENGE = re.compile(r"(?:^|,)\s*bearer\s+(?P<parameters>[^\s=]+=.*)", re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(
    r'\s*(?P<key>[a-z_]+)\s*=\s*(?:"(?P<quoted>[^"]*)"|(?P<bare>[^\s",]+))\s*(?:,|$)', re.IGNORECASE
)
_TOKEN = re.compile(r"[!-~]{1,65536}", re.ASCII)

Place = tuple[routes.RouteKind, str, bool]


@dataclass(frozen=True, slots=True)
class Challenge:
    """Where a token is to be had, and for what (RFC 6750, "WWW-Authenticate")."""

    realm: str
    service: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    """``until``: the loop's time after which it is not used any more."""

    text: str = field(repr=False)
    until: float


class AccountUpstream(Upstream):
    """The upstream as the proxy's own account sees it, over the connections of another `Upstream`.

    Its callers carry the account's Basic credential, or none.  To an upstream that asks for Basic or for nothing this
    is the same as the other.
    """

    def __init__(self, over: Upstream, username: str | None, password: str | None) -> None:
        """Without ``username``, tokens are asked for as anybody."""
        super().__init__(over.connections)
        self._basic = None if username is None else aiohttp.encode_basic_auth(username, password or "")
        self._tokens: FIFOCache[Place, Token] = FIFOCache(MAX_TOKENS)

    async def exchange(
        self, method: str, target: str, sent: CIMultiDict[str], body: bytes | DeadlinePayload | None = None
    ) -> Answer:
        """As of `Upstream`, with a token where the upstream asks for one; a 401 that comes back is final."""
        place = _place(method, target)
        known = self._tokens.get(place)
        if known and known.until > asyncio.get_running_loop().time():
            answer = await super().exchange(method, target, _bearing(sent, known), body)
        else:
            answer = await super().exchange(method, target, sent, body)
        challenge = read_challenge(answer.headers.getall("WWW-Authenticate", ()))
        if answer.status != HTTPStatus.UNAUTHORIZED or challenge is None:
            return answer
        fresh = await self._fetch(challenge)
        if fresh is None:
            return answer
        self._tokens[place] = fresh
        return await super().exchange(method, target, _bearing(sent, fresh), body)

    async def _fetch(self, challenge: Challenge) -> Token | None:
        """A token for a challenge; None where the account gets none.

        Raises `UpstreamUnavailableError` where the token server does not answer, or not with a token.
        """
        realm = self._realm(challenge.realm)
        wanted = {"service": challenge.service, "scope": challenge.scope, "client_id": "immuproxy"}
        asked = {key: value for key, value in wanted.items() if value}
        given = {"Authorization": self._basic} if self._basic else {}
        began = asyncio.get_running_loop().time()
        try:
            answer = await self.elsewhere(realm.update_query(asked), given)
        except UpstreamUnavailableError as error:
            raise UpstreamUnavailableError(f"the token server {realm.origin()} does not answer: {error}") from error
        if answer.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return None
        if answer.status != HTTPStatus.OK:
            raise UpstreamUnavailableError(f"the token server {realm.origin()} answered {answer.status}")
        return read_token(answer.body, began)

    def _realm(self, text: str) -> URL:
        """The realm, if the password may go there: not in the clear where the upstream itself has TLS."""
        try:
            realm = URL(text)
        except ValueError:
            realm = URL()
        if realm.scheme not in {"http", "https"} or not realm.host:
            raise UpstreamUnavailableError("the upstream's challenge names a realm that is no URL")
        if realm.scheme == "http" and self.url.startswith("https:"):
            raise UpstreamUnavailableError("the upstream's challenge names a token server without TLS")
        return realm


def read_challenge(values: Iterable[str]) -> Challenge | None:
    """The Bearer challenge among the values of ``WWW-Authenticate``; None where there is none with a realm."""
    for value in values:
        found = _CHALLENGE.search(value)
        parameters: dict[str, str] = {}
        place = found.start("parameters") if found else len(value)
        while parameter := _PARAMETER.match(value, place):
            parameters.setdefault(parameter["key"].lower(), parameter["quoted"] or parameter["bare"] or "")
            place = parameter.end()
        if parameters.get("realm"):
            return Challenge(parameters["realm"], parameters.get("service", ""), parameters.get("scope", ""))
    return None


def read_token(received: bytes, began: float) -> Token:
    """The token in a server's answer to a question of the time ``began``; raises `UpstreamUnavailableError`."""
    try:
        document = json.loads(received)
    except (ValueError, RecursionError):
        document = None
    values = document if isinstance(document, dict) else {}
    text = values.get("token") or values.get("access_token")
    if not isinstance(text, str) or not _TOKEN.fullmatch(text):
        raise UpstreamUnavailableError("the token server's answer holds no token")
    lasts = values.get("expires_in")
    seconds = lasts if isinstance(lasts, int) and not isinstance(lasts, bool) and lasts > 0 else DEFAULT_SECONDS
    return Token(text, began + seconds - MARGIN)


def _bearing(sent: CIMultiDict[str], token: Token) -> CIMultiDict[str]:
    bearing = sent.copy()
    bearing["Authorization"] = f"Bearer {token.text}"
    return bearing


def _place(method: str, target: str) -> Place:
    """What one token is good for: reading, or writing too, in one repository."""
    operation = routes.parse(method, target)
    return (
        routes.RouteKind.CATALOG if operation.kind is routes.RouteKind.CATALOG else routes.RouteKind.BASE,
        operation.repository,
        operation.is_write,
    )
