"""Which headers travel on, how they are rewritten, and what they tell.  Pure.

A proxy removes what concerns one connection only (RFC 9110 section 7.6.1), what would let a client steer the
upstream's view of who asked and under which name (H10, H40, H49), and adds its own afterwards, so that a client's
``Connection`` header can never take ours away (H39).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from multidict import CIMultiDict

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""For one connection only, in either direction."""

NOT_UPSTREAM = frozenset(
    {
        "expect",
        "forwarded",
        "host",
        "http2-settings",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-host",
        "x-original-uri",
        "x-original-url",
        "x-real-ip",
        "x-rewrite-url",
    }
)
"""From a client, with all that start with ``X-Forwarded-``; the proxy sets its own where there is one."""

NOT_TO_CLIENT = frozenset({"alt-svc"})
"""From the upstream: another way to reach it would be a way round the proxy (H57)."""

CONDITIONAL = frozenset({"if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "range", "if-range"})
"""The registry answers these before it has looked at the manifest (H24)."""

TELLS_NOT_WHO = CONDITIONAL | {
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "content-length",
    "content-type",
    "pragma",
    "traceparent",
    "tracestate",
    "user-agent",
    "via",
    "x-amzn-trace-id",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-spanid",
    "x-b3-traceid",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
}
"""From a client: what no registry takes for a credential.  Whatever else there is may be one."""

STANDING = frozenset({"server", "strict-transport-security", "vary", "x-content-type-options", "x-frame-options"})
"""From the upstream: the same in each of its answers, and meant for everybody."""

Pairs = Iterable[tuple[str, str]]


def end_to_end(pairs: Pairs) -> CIMultiDict[str]:
    """All headers but those for one connection, in order, with duplicates."""
    pairs = list(pairs)
    listed = (
        token.strip().lower() for name, value in pairs if name.lower() == "connection" for token in value.split(",")
    )
    dropped = HOP_BY_HOP.union(listed)
    return CIMultiDict((name, value) for name, value in pairs if name.lower() not in dropped)


def to_upstream(pairs: Pairs, *, scheme: str, host: str, address: str) -> CIMultiDict[str]:
    """A client's headers as the upstream gets them.

    ``scheme`` and ``host`` are those under which the client knows the edge; ``host`` and ``address`` may be empty.
    """
    headers = CIMultiDict(_spelt_alike((name, value) for name, value in end_to_end(pairs).items() if not _steers(name)))
    headers["X-Forwarded-Proto"] = scheme
    if address:
        headers["X-Forwarded-For"] = address
    if host:
        headers["X-Forwarded-Host"] = host
    return headers


def _steers(name: str) -> bool:
    return name.lower() in NOT_UPSTREAM or name.lower().startswith("x-forwarded-")


def _spelt_alike(pairs: Pairs) -> Iterator[tuple[str, str]]:
    """Headers of the same name in the spelling of the first.

    The client library keeps only the last of ``X-A`` and ``x-a``, so what the proxy saw would not be what it sends.
    """
    spelling: dict[str, str] = {}
    for name, value in pairs:
        yield spelling.setdefault(name.lower(), name), value


def without(headers: CIMultiDict[str], names: Iterable[str]) -> CIMultiDict[str]:
    """A copy without some headers; ``names`` in lower case."""
    dropped = frozenset(names)
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in dropped)


def standing(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    """Those that stand in each answer of the upstream."""
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() in STANDING)


def credentials(headers: CIMultiDict[str]) -> tuple[tuple[str, str], ...]:
    """All by which the upstream may know who asks, but the address."""
    return tuple((name.lower(), value) for name, value in headers.items() if name.lower() not in TELLS_NOT_WHO)


_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def received(raw: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Headers as the client library read them; raises `ValueError` for bytes that no header may hold (RFC 9110 section
    5.5), which it takes from a registry but would not send on.
    """
    if any(_CONTROL.search(value) for _, value in raw):
        raise ValueError("the value of a header holds a control character")
    return [(name.decode("ascii"), value.decode("utf-8", "surrogateescape")) for name, value in raw]


def to_client(pairs: Pairs, *, status: int, upstream_origin: str, edge_origin: str) -> CIMultiDict[str]:
    """The upstream's headers as the client gets them: a ``Location`` inside the upstream points at the edge (H49).

    Inside is what has the upstream's origin, whatever the answer.  Where the answer is no redirect, it says where
    something of the registry is; then any origin is replaced, as the registry may believe in another name of its own.
    ``edge_origin`` may be empty: then the location becomes a path.
    """

    def rewritten(name: str, value: str) -> str:
        if name.lower() != "location":
            return value
        return relocated(
            value, is_redirect=status in REDIRECTS, upstream_origin=upstream_origin, edge_origin=edge_origin
        )

    kept = ((name, value) for name, value in end_to_end(pairs).items() if name.lower() not in NOT_TO_CLIENT)
    return CIMultiDict((name, rewritten(name, value)) for name, value in kept)


def is_rewritten(headers: CIMultiDict[str]) -> bool:
    """Whether `to_client` changes anything in headers that are `end_to_end` already; most answers have no such one."""
    return "location" in headers or any(name in headers for name in NOT_TO_CLIENT)


REDIRECTS = range(300, 400)
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*", re.ASCII)


def relocated(location: str, *, is_redirect: bool, upstream_origin: str, edge_origin: str) -> str:
    """``location`` with its origin replaced where it is inside; all after it stays byte for byte (upload state)."""
    found = _ORIGIN.match(location)
    if found is None:
        return location
    is_inside = origin(found[0]) == upstream_origin or (not is_redirect and location.startswith("/v2/", found.end()))
    return edge_origin + location[found.end() :] if is_inside else location


_DEFAULT_PORTS = {"http": 80, "https": 443}


def origin(url: str) -> str:
    """``scheme://host[:port]`` in lower case, without a default port; empty when there is none."""
    try:
        parts = urlsplit(url)
        port = "" if parts.port in {None, _DEFAULT_PORTS.get(parts.scheme)} else f":{parts.port}"
    except ValueError:
        return ""
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?", re.ASCII)


def is_host(text: str) -> bool:
    """Whether ``text`` may stand in an URL as host and port."""
    return _HOST.fullmatch(text) is not None
