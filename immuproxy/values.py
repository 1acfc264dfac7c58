"""Small values that people write into files and commands: durations, listen addresses, networks.  No I/O here."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_DURATION = re.compile("".join(rf"(?:(?P<{unit}>[0-9]{{1,9}}){unit}(?![a-z]))?" for unit in _UNITS), re.ASCII)
_NEARLY = re.compile(r"([0-9]{1,9})\s*(ms|[smhdw])?[a-z]*", re.ASCII | re.IGNORECASE)
LONGEST_MS = 3_660 * _UNITS["d"]
"""Ten years: longer durations are taken for a slip."""

_LONGEST_ADDRESS = 64
"""Characters of IPv6 with IPv4 inside and a zone."""


def parse_duration(text: str) -> int:
    """``15m``, ``30s``, ``1h30m``, ``7d``, ``500ms`` in milliseconds; raises `ValueError` with what to write instead.

    Units are ``w d h m s ms``, whole numbers, larger units first, each at most once.
    """
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        raise ValueError(f"{text!r} is no duration{_suggest_duration(text)}")
    total = sum(int(count) * _UNITS[unit] for unit, count in found.groupdict(default="0").items())
    if total > LONGEST_MS:
        raise ValueError(f"{text!r} is longer than ten years")
    return total


def _suggest_duration(text: str) -> str:
    nearly = _NEARLY.fullmatch(text.strip())
    if nearly is None:
        return "; write it as 30s, 15m, 1h30m or 7d"
    count, unit = nearly.groups()
    if unit is None:
        return f"; add a unit, as in {count}s or {count}m"
    return f"; did you mean {count}{unit.lower()}?"


def format_duration(milliseconds: int) -> str:
    """As people write it, ``30d`` and not ``4w2d``; `parse_duration` reads it back to the same value.  0 is ``0s``."""
    rest, parts = milliseconds, []
    for unit, size in _UNITS.items():
        if unit == "w":
            continue
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def roughly(milliseconds: int) -> str:
    """The two largest units, for sentences: ``3d4h``, ``12m5s``."""
    largest = next((size for size in _UNITS.values() if size <= milliseconds), 1)
    following = max((size for size in _UNITS.values() if size < largest), default=1)
    return format_duration(milliseconds - milliseconds % max(following, _UNITS["s"]))


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


MAX_SHOWN = 256
"""Characters of an actor or user agent that are kept in an event."""


def printable(text: str) -> str:
    """At most `MAX_SHOWN` characters, without control characters and lone surrogates."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:MAX_SHOWN])


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen.  ``host`` has no brackets; port 0 means any free port."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        address = parse_address(self.host)
        return self.host == "localhost" if address is None else address.is_loopback

    def __str__(self) -> str:
        """``127.0.0.1:5000`` or ``[::1]:5000``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


HIGHEST_PORT = 65_535
_LISTEN = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})", re.ASCII)


def parse_listen(text: str) -> Listen:
    """``host:port`` with IPv6 in brackets; raises `ValueError` with what to write instead."""
    found = _LISTEN.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no address to listen on{_suggest_listen(text)}")
    port = int(found["port"])
    if port > HIGHEST_PORT:
        raise ValueError(f"{text!r}: a port is at most 65535")
    if found["six"] and not isinstance(parse_address(found["six"]), Address):
        raise ValueError(f"{text!r}: {found['six']} is no IPv6 address")
    return Listen(found["six"] or found["host"], port)


def _suggest_listen(text: str) -> str:
    bare = text.removeprefix("http://").removeprefix("https://").rstrip("/")
    if re.fullmatch(r":?[0-9]{1,5}", bare):
        port = bare.removeprefix(":")
        return f"; did you mean 127.0.0.1:{port} (this machine only) or 0.0.0.0:{port} (everybody)?"
    if bare != text and _LISTEN.fullmatch(bare):
        return f"; did you mean {bare}?"
    host, _, port = bare.rpartition(":")
    if ":" in host and not host.startswith("["):
        return f"; put IPv6 addresses in brackets: [{host}]:{port}"
    return "; write it as HOST:PORT, such as 127.0.0.1:5000 or [::1]:5000"
