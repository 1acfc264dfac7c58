"""How much the rosters keep."""

from __future__ import annotations

import pytest

from immuproxy.audit import Rosters, rosters
from immuproxy.store.redis import connect
from tests.audit.settled import searchable
from tests.support.servers import RedisServer


async def test_names_of_no_repository_are_not_kept_for_ever(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rosters, "MOST_TAGS", 3)
    async with connect(redis_server.url, timeout=2) as store, searchable(store) as here:
        kept = Rosters(store, here.audit)
        for number in range(10):
            await kept.of(f"team/nothing-{number}")
        assert list(kept._kept) == [f"team/nothing-{number}" for number in (7, 8, 9)]
