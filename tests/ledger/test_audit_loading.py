"""The quick way to fill an audit writes what the projector's script writes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from immuproxy.ledger.audit import entries
from immuproxy.ledger.redis import Store, connect
from tests.ledger.audit_events import fill, made_up_events
from tests.ledger.audit_loading import Written, load
from tests.servers import RedisServer

START = 1_700_000_000_000
EVENTS = list(made_up_events(300, repositories=10, start=START, days=20))


@pytest_asyncio.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    async with connect(redis_server.url, timeout=5) as opened:
        yield opened


async def contents(store: Store) -> dict[bytes, Any]:
    found: dict[bytes, Any] = {}
    async for key in store.client.scan_iter("*{audit}*", count=10_000):
        match await store.client.type(key):
            case b"string":
                found[key] = await store.client.get(key)
            case b"zset":
                found[key] = await store.client.zrange(key, 0, -1, withscores=True)
            case b"hash":
                found[key] = await store.client.hgetall(key)
            case b"stream":
                found[key] = await store.client.xrange(key)
    return found


async def test_what_is_loaded_is_what_is_projected(store: Store, redis_server: RedisServer) -> None:
    await fill(store, EVENTS)
    await store.client.delete(entries.WATERMARK)
    expected = await contents(store)
    assert len(expected) > 1_000
    await store.client.flushall()
    load(redis_server.url, EVENTS)
    assert await contents(store) == expected


async def test_slices_are_put_together(store: Store, redis_server: RedisServer) -> None:
    whole, parts = Written.of(EVENTS), Written.of(EVENTS[:130])
    parts.merge(Written.of(EVENTS[130:]))
    assert (parts.postings, parts.lasts, parts.counts) == (whole.postings, whole.lasts, whole.counts)
