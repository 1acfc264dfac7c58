"""How a request reached the console: from where, by TLS or not, and under which host."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from immuproxy.values.networks import Network, client_address, is_trusted, parse_address
from immuproxy.values.text import printable


@dataclass(frozen=True, slots=True)
class Reached:
    """``peer`` is the other end of the connection, ``address`` the client's behind trusted proxies; both may be empty.

    ``secure``: TLS on the client's side.  ``host`` is what the client asked for, with a port where it gave one.
    """

    peer: str = ""
    address: str = ""
    secure: bool = False
    host: str = ""
    user_agent: str = ""

    @property
    def network(self) -> str:
        """What counts as one client when attempts are counted: an IPv4 address, or the /64 of an IPv6 one."""
        parsed = parse_address(self.address)
        if parsed is None or parsed.version == 4:
            return self.address
        return str(ipaddress.ip_network((parsed, 64), strict=False))


def reached(request: web.BaseRequest, trusted: Sequence[Network]) -> Reached:
    """Read it.  ``X-Forwarded-*`` counts only where the peer itself is trusted."""
    peer = (request.transport.get_extra_info("peername") or ("",))[0] if request.transport else ""
    secure, host = request.secure, request.headers.get("Host", "")
    if is_trusted(peer, trusted):
        secure = _last(request, "X-Forwarded-Proto", "https" if secure else "http").lower() == "https"
        host = _last(request, "X-Forwarded-Host", host)
    return Reached(
        peer=peer,
        address=client_address(peer, request.headers.getall("X-Forwarded-For", []), trusted),
        secure=secure,
        host=host,
        user_agent=printable(request.headers.get("User-Agent", "")),
    )


def _last(request: web.BaseRequest, name: str, otherwise: str) -> str:
    """The word of the proxy nearest to us: what stands before it was there when the request came to that proxy."""
    values = request.headers.getall(name, [])
    return values[-1].rpartition(",")[2].strip() if values else otherwise
