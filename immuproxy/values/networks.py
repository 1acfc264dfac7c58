"""Addresses and networks, and whose word on them counts."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LONGEST_ADDRESS = 64
"""Characters of IPv6 with IPv4 inside and a zone."""


def parse_network(text: str) -> Network:
    """A network in CIDR form, or one address; raises `ValueError` with what to write instead."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        wider = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no network; write it as 10.1.0.0/16 or 2001:db8::/32") from None
    raise ValueError(f"{text!r} has bits beyond its prefix; did you mean {wider}?")


def parse_address(text: str) -> Address | None:
    """An address as networks are compared with: IPv4 inside IPv6 becomes IPv4; None for anything else."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    """Whether ``address`` lies in one of the networks."""
    if not trusted:
        return False
    try:
        parsed = ipaddress.ip_address(plain_address(address))
    except ValueError:
        return False
    return any(parsed in network for network in trusted)


def plain_address(text: str) -> str:
    """An IP address in its usual spelling; one of IPv4 inside IPv6 as IPv4; whatever else as it is."""
    return _plain(text) if len(text) <= _LONGEST_ADDRESS else text


@lru_cache(maxsize=1_024)
def _plain(text: str) -> str:
    """Each request asks for the same few; what is kept is bounded in length, as clients may write it."""
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return text
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def client_address(peer: str, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str:
    """Who asked: the peer, or where the peer is a trusted proxy the last untrusted hop that it names.

    ``forwarded_for``: the values of ``X-Forwarded-For``, in order; a hop may have a port, which is left out.  One that
    is no address ends the walk: what stands before it could be anything.
    """
    hops = [hop.strip() for value in forwarded_for for hop in value.split(",")]
    address = plain_address(peer)
    while is_trusted(address, trusted) and hops:
        # A scope means something on its own machine only, and could be any text.
        hop = _without_port(hops.pop()).partition("%")[0]
        try:
            ipaddress.ip_address(hop)
        except ValueError:
            break
        address = plain_address(hop)
    return address


_WITH_PORT = re.compile(r"(?:\[((?=[^\]]*:)[0-9A-Fa-f:.]+)\]|([0-9.]+)(?=:))(?::[0-9]{1,5})?")


def _without_port(hop: str) -> str:
    """``203.0.113.7:51234`` and ``[2001:db8::7]:51234``, as some load balancers write a hop (RFC 7239 section 6)."""
    found = _WITH_PORT.fullmatch(hop)
    return (found[1] or found[2]) if found else hop
