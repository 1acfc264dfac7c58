"""A ledger, and some events in its record."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from immuproxy.ledger.model import Event
from immuproxy.store.redis import Store, connect
from tests.audit.made_up import fill, made_up_events
from tests.support.servers import RedisServer


@pytest_asyncio.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    async with connect(redis_server.url, timeout=5) as opened:
        yield opened


@pytest_asyncio.fixture
async def events(store: Store) -> list[Event]:
    made = list(made_up_events(120, repositories=10))
    await fill(store, made)
    return made
