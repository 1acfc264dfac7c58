"""The stream of events in Redis, read by places."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

from immuproxy.audit import schema
from immuproxy.audit.record import rows
from immuproxy.audit.record.keys import EVENTS
from immuproxy.store import cancelling
from immuproxy.store.redis import Store

Raw = tuple[int, bytes]
"""The place of an event, and what stands in the stream (`immuproxy.audit.record.rows`)."""

BLOCK_MS = 400
"""How long Redis is asked to wait for news, at most; less than the least timeout of its replies."""

Entry = tuple[bytes, dict[bytes, bytes]]


async def newest_first(store: Store, upper: int | None, lower: int, count: int) -> list[Raw]:
    """The newest ``count`` events from ``upper`` (None: the newest of all) down to ``lower``, both inclusive."""
    high = "+" if upper is None else _id(upper)
    return _raw(await _asked(store, store.client.xrevrange(EVENTS, high, _id(lower), count=count)))


async def oldest_first(store: Store, lower: int, count: int) -> list[Raw]:
    """The oldest ``count`` events at or above ``lower``."""
    return _raw(await _asked(store, store.client.xrange(EVENTS, _id(lower), "+", count=count)))


async def newest_place(store: Store, upper: int | None = None) -> int:
    """Of all, or of those at or below ``upper``; 0 where there is none."""
    found = await newest_first(store, upper, 0, 1)
    return found[0][0] if found else 0


async def oldest_place(store: Store) -> int:
    """Of all that were not pruned; 0 where there is none."""
    found = await oldest_first(store, 0, 1)
    return found[0][0] if found else 0


async def wait_for_news(store: Store, after: int) -> bool:
    """Return true when there is an event above ``after``, or false after `BLOCK_MS`.

    Without redis-py's ``xread``, which never awaits the command inside where its turn does not come.
    """
    command = ("XREAD", "COUNT", 1, "BLOCK", BLOCK_MS, "STREAMS", EVENTS, _id(after))
    return bool(await _asked(store, store.client.execute_command(*command)))


async def length(store: Store) -> int:
    """How many events there are."""
    return int(await _asked(store, store.client.xlen(EVENTS)))


async def _asked(store: Store, command: Awaitable[Any]) -> Any:
    """redis-py can take a cancellation for a lost connection, and go on."""
    try:
        return await store.do(command)
    finally:
        if not cancelling.is_wanted():
            raise asyncio.CancelledError


def _raw(found: Sequence[Entry]) -> list[Raw]:
    return [(_place(entry_id), rows.raw_of(fields)) for entry_id, fields in found]


def _place(entry_id: bytes) -> int:
    ms, _, sequence = entry_id.partition(b"-")
    return schema.place_of(int(ms), int(sequence))


def _id(place: int) -> str:
    return f"{schema.ms_of(place)}-{place & schema.MOST_SEQUENCE}"
