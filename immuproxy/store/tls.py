"""One TLS context for the connections to Redis that are made about the same time (H131).

redis-py makes one for each connection, and reads all authorities that the system knows each time: some 30 ms of a
processor in which the proxy does nothing else, 64 times at the first burst.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from ssl import SSLContext
from typing import Any

from redis.asyncio import Redis, RedisCluster, SSLConnection
from redis.asyncio.connection import RedisSSLContext

from immuproxy.store.cluster import connect_by

READ_EVERY = 10
"""Seconds after which files of authorities and certificates are read again, for the next connection."""

_SETTINGS = tuple(name for name in RedisSSLContext.__slots__ if name != "context")


class SharingConnection(SSLConnection):
    """As its base, but for where its context comes from."""

    def _connection_arguments(self) -> Mapping[str, Any]:
        settings = tuple(_hashable(getattr(self.ssl_context, name)) for name in _SETTINGS)
        self.ssl_context.context = _context(settings, int(time.monotonic() // READ_EVERY))
        arguments: Mapping[str, Any] = super()._connection_arguments()
        return arguments


def share_context(client: Redis | RedisCluster) -> None:
    """Let a client that has not connected yet, and uses TLS, make `SharingConnection`."""
    if isinstance(client, RedisCluster):
        if client.connection_kwargs.get("connection_class") is SSLConnection:
            connect_by(client, SharingConnection)
    elif client.connection_pool.connection_class is SSLConnection:
        client.connection_pool.connection_class = SharingConnection


@lru_cache(maxsize=4)
def _context(settings: tuple[Any, ...], _period: int) -> SSLContext:
    made: SSLContext = RedisSSLContext(**dict(zip(_SETTINGS, settings, strict=True))).get()
    return made


def _hashable(setting: Any) -> Any:
    return tuple(setting) if isinstance(setting, list) else setting
