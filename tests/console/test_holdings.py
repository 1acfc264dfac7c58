"""What each rule holds is counted in the background, now and then, and never by the rules of before."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from immuproxy.console.rules.holdings import Holdings, count
from immuproxy.console.sources import Sources
from immuproxy.ledger import keys
from immuproxy.store.redis import Store
from tests.console.conftest import Console
from tests.console.events import digest, in_force
from tests.support.servers import RedisServer


async def filled(store: Store) -> None:
    client: Any = store.client
    await client.sadd(keys.REPOSITORIES, "team/app", "team/api", "other")
    await client.zadd(keys.tags("team/app"), {"1.0": 1, "2.0": 2})
    await client.zadd(keys.tags("other"), {"1.0": 1})
    for repository in ("team/app", "team/api"):
        await client.hset(keys.moved(repository), "latest", digest("one"))


async def test_tags_and_repositories_of_each_rule(sources: Sources, store: Store) -> None:
    await filled(store)
    found = await count(sources)
    assert dict(found.tags) == {"releases": 2, "moving": 2, "default": 1}
    assert dict(found.repositories) == {"releases": 1, "moving": 2, "default": 1}
    assert found.rules == sources.rules().rules.digest


async def test_a_count_is_kept_for_a_while(sources: Sources, store: Store) -> None:
    await filled(store)
    holdings = Holdings(sources)
    first = None
    while first is None:
        first = await holdings.latest()
    assert await holdings.latest() is first
    await holdings.close()


async def test_a_count_by_other_rules_is_not_shown(sources: Sources, store: Store) -> None:
    await filled(store)
    ruling = [sources.rules()]
    holdings = Holdings(replace(sources, rules=lambda: ruling[0]))
    while await holdings.latest() is None:
        await asyncio.sleep(0)
    ruling[0] = in_force("default: frozen\n")
    found = None
    while found is None:
        found = await holdings.latest()
    assert dict(found.tags) == {"default": 5}
    await holdings.close()


async def test_a_redis_that_is_away_is_waited_out(sources: Sources, redis_server: RedisServer) -> None:
    holdings = Holdings(sources)
    redis_server.kill()
    assert await holdings.latest() is None
    await holdings.close()


async def test_the_page_and_the_api_say_the_same(console: Console, store: Store) -> None:
    await filled(store)
    found: dict[str, Any] = {"counted": None}
    async with asyncio.timeout(20):
        while not found["counted"]:
            found = await (await console.get("/api/v1/rules")).json()
    held = {rule["name"]: rule["holds"] for rule in found["rules"]}
    assert held["releases"] == {"tags": 2, "repositories": 1}
    page = await (await console.get("/rules")).text()
    assert "2 tags" in page
    assert "in 2 repositories" in page
