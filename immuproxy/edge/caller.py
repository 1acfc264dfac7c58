"""Who asks: everything that the proxy needs to know of a request beside its target and body, read once at the door."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jwt
from aiohttp import HttpVersion10, HttpVersion11, web
from multidict import CIMultiDict

from immuproxy.edge import headers
from immuproxy.ledger.model import ActorSource
from immuproxy.oci import errors
from immuproxy.values.networks import Network, client_address, is_trusted
from immuproxy.values.text import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One request's sender.

    ``headers`` are those that travel to the upstream.  ``edge_origin`` is the origin under which the client reached the
    edge, empty for a client that told no host.  ``started`` is the loop's time, in seconds.
    """

    headers: CIMultiDict[str]
    actor: str
    actor_source: ActorSource
    address: str
    user_agent: str
    request_id: str
    edge_origin: str
    started: float

    @property
    def authorization(self) -> str:
        """The credential as sent, or nothing."""
        return self.headers.get("Authorization", "")

    def accepts(self, media_type: str) -> bool:
        """Whether the client names just this type, as registries want it (H23)."""
        listed = (part for value in self.headers.getall("Accept", []) for part in value.split(","))
        return media_type in (part.partition(";")[0].strip() for part in listed)

    def with_headers(self, sent: CIMultiDict[str]) -> Caller:
        """The same sender with other headers."""
        return replace(self, headers=sent)


def identify(request: web.BaseRequest, *, trusted: Sequence[Network], external_url: str | None, now: float) -> Caller:
    """Read the sender of ``request``; raises `OciError` for a ``Host`` that is none, and for two credentials.

    Of two credentials the upstream might take the other one for its answer than the audit for the actor.
    """
    if len(request.headers.getall("Authorization", [])) > 1:
        raise errors.bad_target("there are two Authorization headers")
    peer = (request.transport.get_extra_info("peername") or ("",))[0] if request.transport else ""
    through_proxy = is_trusted(peer, trusted)
    scheme, host = _reached_as(request, through_proxy=through_proxy, external_url=external_url)
    address = client_address(peer, request.headers.getall("X-Forwarded-For", []), trusted)
    forwarded = headers.to_upstream(request.headers.items(), scheme=scheme, host=host, address=address)
    actor, source = actor_of(forwarded.get("Authorization", ""))
    return Caller(
        headers=forwarded,
        actor=actor,
        actor_source=source,
        address=address,
        user_agent=printable(request.headers.get("User-Agent", "")),
        request_id=secrets.token_hex(8),
        edge_origin=f"{scheme}://{host}" if host else "",
        started=now,
    )


def _reached_as(request: web.BaseRequest, *, through_proxy: bool, external_url: str | None) -> tuple[str, str]:
    if request.version not in {HttpVersion10, HttpVersion11}:
        raise errors.bad_target("the request is neither HTTP/1.0 nor HTTP/1.1")
    if request.version == HttpVersion11 and not request.headers.get("Host"):
        raise errors.bad_target("the Host header is missing")
    if external_url:
        scheme, _, host = external_url.rstrip("/").partition("://")
        return scheme, host
    scheme = "https" if request.secure else "http"
    host = request.headers.get("Host", "")
    if through_proxy:
        proto = request.headers.get("X-Forwarded-Proto", scheme)
        scheme = proto if proto in {"http", "https"} else scheme
        host = request.headers.get("X-Forwarded-Host", host)
    if host and not headers.is_host(host):
        raise errors.bad_target("the Host header is no host name")
    return scheme, host


def actor_of(authorization: str) -> tuple[str, ActorSource]:
    """The user that a credential claims to be.  Not verified here: only the upstream can say whether it is true."""
    scheme, _, credential = authorization.partition(" ")
    match scheme.lower():
        case "basic":
            return _basic_user(credential.strip()), ActorSource.BASIC
        case "bearer":
            return _token_subject(credential.strip()), ActorSource.TOKEN
        case _:
            return "", ActorSource.ANONYMOUS


def _basic_user(credential: str) -> str:
    try:
        decoded = base64.b64decode(credential, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""
    return printable(decoded.partition(":")[0])


def _token_subject(token: str) -> str:
    """The ``sub`` of a JSON Web Token (RFC 7519); an opaque token has none."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        return ""
    subject = claims.get("sub")
    return printable(subject) if isinstance(subject, str) else ""
