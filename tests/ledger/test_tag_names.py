from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import chain
from typing import Any

import pytest
from immuproxy.ledger.audit import Audit

from immuproxy.ledger import keys, tag_names
from immuproxy.ledger.model import Action, Event, Outcome
from immuproxy.ledger.redis import Store, connect
from immuproxy.ledger.tag_names import standing_tags
from tests.servers import RedisServer


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    async with connect(redis_server.url, timeout=2.0) as opened:
        yield opened


async def told(store: Store, tag: str, outcome: Outcome, action: Action = Action.PUSH) -> None:
    digest = f"sha256:{'a' * 64}"
    await Audit(store).append(
        Event(id=f"{tag}-{outcome}", time=1, action=action, outcome=outcome, repository="app", tag=tag, digest=digest)
    )


async def test_held_ones_and_moving_ones_that_were_not_deleted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tag_names, "_CHUNK", 2)
    client: Any = store.client
    await client.zadd(keys.tags("app"), {"1.0": 1, "2.0": 2, "3.0": 3})
    for tag in ("1.0", "latest", "gone"):
        await told(store, tag, Outcome.CREATED)
    await told(store, "refused", Outcome.REFUSED)
    await told(store, "gone", Outcome.DELETED, Action.DELETE_TAG)
    found = list(chain.from_iterable([part async for part in standing_tags(store, "app")]))
    assert sorted(found) == ["1.0", "2.0", "3.0", "latest"]
    assert [part async for part in standing_tags(store, "other")] == [[]]
