"""Where to listen: ``host:port``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from immuproxy.values.networks import Address, parse_address


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
