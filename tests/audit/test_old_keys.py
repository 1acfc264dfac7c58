"""What older releases kept to search the audit goes from Redis, bit by bit, and nothing else does (H126)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from structlog.testing import capture_logs

from immuproxy.audit.record import Record, old_keys
from immuproxy.audit.record import keys as record_keys
from immuproxy.audit.record.old_keys import delete_old_keys, keep_deleted
from immuproxy.ledger import keys
from immuproxy.store.keys import OLD_CONSOLE_KEY
from immuproxy.store.redis import LedgerUnavailableError, connect
from tests.audit.made_up import made_up_events
from tests.audit.recording import publish, recorded
from tests.support.clusters import cluster_url, master_of, started_cluster
from tests.support.servers import RedisServer, free_port

MANY = 200_000
STEP_MICROSECONDS = 10_000
"""A step of Redis takes some hundred; the rest is for a machine that does other things, too."""

OTHERS = (
    "immuproxy:{team/app}:tags",
    "immuproxy:repositories",
    "immuproxy:{console}:budgets",
    "immuproxy:{audit",
    "other",
)


def leave_old_keys(client: Redis, count: int) -> None:
    """As the older release did: postings, counters and rosters, and what the proxy still has beside them."""
    make = """
    for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do redis.call('SET', KEYS[1] .. i, '12345678') end
    redis.call('HSET', KEYS[1] .. 'roster', 'a', 'b')
    redis.call('ZADD', KEYS[1] .. 'lasts', 1, 'b')
    """
    for first in range(1, count + 1, 10_000):
        client.eval(make, 1, record_keys.AUDIT + "posting:", first, min(count, first + 9_999))


@pytest.mark.timeout(60)  # 200,000 keys
async def test_h126_many_old_keys_go_in_short_steps_and_all_else_stays(redis_server: RedisServer) -> None:
    with Redis.from_url(redis_server.url) as client:
        for name in OTHERS:
            client.set(name, "kept")
        async with connect(redis_server.url, timeout=5) as store:
            (event,) = made_up_events(1)
            await Record(store).append(event)
            client.hset(record_keys.WATERMARK, "team/app", "1-1")
            client.xadd(record_keys.UNREADABLE, {"entry": "x"})
            kept = set(client.keys())
            leave_old_keys(client, MANY)
            client.set(OLD_CONSOLE_KEY, b"signs forms")
            client.config_set("slowlog-log-slower-than", STEP_MICROSECONDS)
            client.slowlog_reset()
            assert await delete_old_keys(store) == MANY + 3
            assert client.slowlog_len() < MANY / old_keys._KEYS_A_STEP / 4  # those that others took the processor from
            assert set(client.keys()) == kept
            assert await recorded(store) == [event]
            assert await delete_old_keys(store) == 0


async def test_h126_on_a_cluster_they_go_from_the_node_that_has_them(start_redis: Callable[..., RedisServer]) -> None:
    servers = started_cluster(start_redis, masters=2)
    async with connect(cluster_url(servers), timeout=5) as store:
        (event,) = made_up_events(1)
        await publish(store, event)
        with Redis(port=servers[master_of("audit", 2)].port) as client:
            leave_old_keys(client, 3_000)
            await store.client.set(OLD_CONSOLE_KEY, b"signs forms")
            assert await delete_old_keys(store) == 3_003
            assert not await store.client.exists(OLD_CONSOLE_KEY)
            assert not client.keys(record_keys.AUDIT + "*")
        assert await store.client.exists(keys.outbox(event.repository))


async def test_h126_who_may_not_look_for_them_leaves_them_and_says_so(redis_server: RedisServer) -> None:
    with Redis.from_url(redis_server.url) as client:
        leave_old_keys(client, 10)
        words: Any = ("ACL", "SETUSER", "proxy", "reset", "on", ">secret", "~immuproxy:*", "+@all", "-scan")
        client.execute_command(*words)
        url = f"redis://proxy:secret@127.0.0.1:{redis_server.port}/0"
        with capture_logs() as told:
            async with connect(url, timeout=5) as store, asyncio.TaskGroup() as tasks:
                deleting = tasks.create_task(keep_deleted(store))
                (event,) = made_up_events(1)
                while not told:
                    await asyncio.sleep(0.01)
                await Record(store).append(event)
                assert await recorded(store) == [event]
                deleting.cancel()
        assert "SCAN" in told[0]["error"]
        assert len(client.keys(record_keys.AUDIT + "*")) == 10 + 2 + 2


async def test_h126_what_an_older_proxy_writes_meanwhile_goes_the_next_time(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(old_keys, "EVERY", 0.01)
    with Redis.from_url(redis_server.url) as client:
        async with connect(redis_server.url, timeout=5) as store, asyncio.TaskGroup() as tasks:
            deleting = tasks.create_task(keep_deleted(store))
            for _ in range(2):
                leave_old_keys(client, 10)
                async with asyncio.timeout(10):
                    while client.keys(record_keys.AUDIT + "*"):
                        await asyncio.sleep(0.01)
            deleting.cancel()


async def test_h124_a_cluster_of_which_no_node_answers_is_a_ledger_that_is_away() -> None:
    async with connect(f"redis+cluster://127.0.0.1:{free_port()}", timeout=1) as store:
        with pytest.raises(LedgerUnavailableError):
            await delete_old_keys(store)
