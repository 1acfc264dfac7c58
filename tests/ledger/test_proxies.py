"""Proxies with different rules notice each other (H57)."""

from __future__ import annotations

import json
import time

import pytest

from immuproxy.ledger import keys
from immuproxy.ledger.proxies import FORGOTTEN, Proxies
from immuproxy.store.redis import connect
from tests.support.servers import RedisServer


async def test_h57_two_proxies_with_different_rules_see_each_other(redis_server: RedisServer) -> None:
    async with connect(redis_server.url, timeout=1) as store:
        one, two = Proxies(store), Proxies(store)
        assert await one.announce("sha256:a") == {"sha256:a"}
        assert await two.announce("sha256:b") == {"sha256:a", "sha256:b"}
        assert await one.announce("sha256:b") == {"sha256:b"}


async def test_h73_a_proxy_whose_own_clock_is_wrong_counts_all_the_same(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(redis_server.url, timeout=1) as store:
        one, two = Proxies(store), Proxies(store)
        with monkeypatch.context() as slow:
            slow.setattr(time, "time", lambda: 1_000_000_000.0)
            await one.announce("sha256:a")
        assert await two.announce("sha256:b") == {"sha256:a", "sha256:b"}


async def test_a_proxy_that_left_or_died_does_not_count(redis_server: RedisServer) -> None:
    async with connect(redis_server.url, timeout=1) as store:
        one, two = Proxies(store), Proxies(store)
        await one.announce("sha256:a")
        await one.leave()
        dead = json.dumps({"rules": "sha256:c", "seen": 1_000_000_000 - FORGOTTEN})
        await store.do(store.client.hset(keys.REPLICAS, "dead", dead))
        assert await two.announce("sha256:b") == {"sha256:b"}
        assert await store.do(store.client.hlen(keys.REPLICAS)) == 1
