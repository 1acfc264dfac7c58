from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import chain
from typing import Any

import pytest

from immuproxy.ledger import keys, reader
from immuproxy.store.redis import Store, connect
from tests.support.servers import RedisServer


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    async with connect(redis_server.url, timeout=2.0) as opened:
        yield opened


async def test_held_ones_and_moving_ones_that_were_not_deleted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_TAGS_A_CALL", 2)
    client: Any = store.client
    await client.zadd(keys.tags("app"), {"1.0": 1, "2.0": 2, "3.0": 3})
    await client.hset(keys.moved("app"), mapping={"1.0": "sha256:a", "latest": "sha256:b"})
    standing_tags = reader.Reader(store).standing_tags
    found = list(chain.from_iterable([part async for part in standing_tags("app")]))
    assert sorted(found) == ["1.0", "2.0", "3.0", "latest"]
    assert list(chain.from_iterable([part async for part in standing_tags("other")])) == []
