"""The forms of ``redis.url``.

=======================  ===========================================================================
``redis://``             TCP: ``redis://[user:password@]host[:port][/database]``
``rediss://``            the same over TLS; ``?ssl_ca_certs=FILE`` names the authority
``unix://``              ``unix:///path/to.sock[?db=N]``
``redis+sentinel://``    ``redis+sentinel://[user:password@]host:port[,host:port...]/master-name[/database]``
``redis+cluster://``     ``redis+cluster://[user:password@]host[:port]`` (``rediss+cluster://`` over TLS)
=======================  ===========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

DEFAULT_SENTINEL_PORT = 26379


@dataclass(frozen=True, slots=True)
class SingleAddress:
    """One server, in redis-py's own form."""

    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClusterAddress:
    """One node of a cluster, in redis-py's own form; the others are learnt from it."""

    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SentinelAddress:
    """The sentinels that know where the master is."""

    sentinels: tuple[tuple[str, int], ...]
    master: str
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)


def parse_url(url: str) -> SingleAddress | ClusterAddress | SentinelAddress:
    """Tell the forms apart; raises `ValueError` with what is wrong (the URL itself is not repeated: it may hold a
    password).
    """
    scheme = urlsplit(url).scheme
    match scheme:
        case "redis" | "rediss" | "unix":
            return SingleAddress(url)
        case "redis+cluster" | "rediss+cluster":
            return ClusterAddress(url.replace("+cluster", "", 1))
        case "redis+sentinel":
            return _sentinel(url)
        case _:
            message = (
                f"redis.url starts with {scheme or 'no scheme'!r}; "
                "use redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"
            )
            raise ValueError(message)


def _sentinel(url: str) -> SentinelAddress:
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    master, _, database = parts.path.strip("/").partition("/")
    if not master:
        message = "redis.url names no master: redis+sentinel://host:26379/master-name"
        raise ValueError(message)
    return SentinelAddress(
        sentinels=tuple(_host(host) for host in hosts.split(",") if host),
        master=master,
        database=int(database or 0),
        username=unquote(username) or None,
        password=unquote(password) or None,
    )


def _host(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    return (host.strip("[]"), int(port)) if colon else (text, DEFAULT_SENTINEL_PORT)
