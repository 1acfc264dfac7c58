"""Nothing is written to a Redis that may forget, whoever looks at it and whoever asks (H69)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis import Redis
from structlog.testing import capture_logs

from immuproxy.ledger.clock import ledger_time
from immuproxy.ledger.safety import Safety
from immuproxy.store.redis import LedgerRefusedError, Store, connect
from tests.support.servers import RedisServer


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    async with connect(redis_server.url, timeout=1) as store:
        yield store


async def test_h69_the_gate_follows_what_is_found(store: Store, admin: Redis) -> None:
    safety = Safety(store, strict=True)
    assert (await safety.look()).fault == ""
    await ledger_time(store)
    admin.config_set("maxmemory-policy", "allkeys-lru")
    assert (await safety.look()).may_forget
    with pytest.raises(LedgerRefusedError, match="noeviction"):
        await ledger_time(store)
    admin.config_set("maxmemory-policy", "noeviction")
    assert not (await safety.look()).may_forget
    await ledger_time(store)


async def test_h69_a_redis_that_goes_away_opens_no_gate(store: Store, admin: Redis, redis_server: RedisServer) -> None:
    safety = Safety(store, strict=True)
    admin.config_set("appendonly", "no")
    refusal = (await safety.look()).fault
    redis_server.stop()
    found = await safety.look()
    assert found.fault
    assert not found.may_forget
    assert store.refusal == refusal != ""


async def test_h69_what_is_allowed_to_forget_is_told_once(store: Store, admin: Redis) -> None:
    admin.config_set("maxmemory-policy", "allkeys-lru")
    safety = Safety(store, strict=False)
    with capture_logs() as logs:
        for _ in range(3):
            assert (await safety.look()).fault == ""
        await ledger_time(store)
    assert [entry["log_level"] for entry in logs] == ["warning"]


async def test_nothing_counts_as_found_before_the_first_look(store: Store) -> None:
    assert Safety(store, strict=True).found.fault
