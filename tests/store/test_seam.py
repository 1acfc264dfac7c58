"""Whatever comes out of the client of Redis is one error of ours (H97)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from immuproxy.ledger.holders import Holders
from immuproxy.ledger.reader import Reader
from immuproxy.store.redis import LedgerUnavailableError, Store, connect
from tests.support.servers import RedisServer, free_port


async def test_h97_a_connection_that_is_dropped_under_a_command_is_a_ledger_that_does_not_answer(
    redis_server: RedisServer,
) -> None:
    """redis-py fails with an AttributeError of its own where another task has dropped the connection meanwhile."""
    async with connect(redis_server.url, timeout=2) as store:
        assert isinstance(store.client, Redis)
        causes: set[str] = set()
        for pauses in range(40):
            await store.do(store.client.ping())
            asking = asyncio.create_task(store.do(store.client.hget("immuproxy:none", "x")))
            for _ in range(pauses):
                await asyncio.sleep(0)
            for connection in list(store.client.connection_pool._in_use_connections):
                await connection.disconnect(nowait=True)
            await asyncio.wait([asking])
            end = asking.exception()
            assert end is None or isinstance(end, LedgerUnavailableError), repr(end)
            causes |= {type(end.__cause__).__name__} if end else set()
        assert "AttributeError" in causes
        assert await store.do(store.client.ping())


async def test_h97_what_the_client_fails_with_is_told_with_its_kind(redis_server: RedisServer) -> None:
    async def failing() -> Any:
        raise AttributeError("'NoneType' object has no attribute 'read'")

    async with connect(redis_server.url, timeout=1) as store:
        with pytest.raises(LedgerUnavailableError, match="AttributeError"):
            await store.do(failing())


async def test_h97_a_cluster_of_which_no_node_answers_is_a_ledger_that_does_not_answer() -> None:
    """redis-py has an exception for it that is no `RedisError`."""
    async with connect(f"redis+cluster://127.0.0.1:{free_port()}", timeout=1) as store:
        with capture_logs() as logged, pytest.raises(LedgerUnavailableError, match=r"cannot be connected|stood still"):
            await store.do(store.client.get("x"))
    assert logged == []


@pytest.mark.parametrize(
    "question",
    [
        lambda store: Reader(store).unfinished(["team/app"]),
        lambda store: Reader(store).with_late_writes(["team/app"]),
        lambda store: Reader(store).tagged(["team/app"]),
        lambda store: Holders(store).of("team/app", "sha256:0"),
    ],
    ids=["unfinished", "late", "tagged", "holders"],
)
async def test_h124_a_pipeline_to_a_cluster_that_is_away_is_a_ledger_that_does_not_answer(
    question: Callable[[Store], Awaitable[object]],
) -> None:
    """redis-py looks for the cluster as soon as a pipeline is entered, before it is executed."""
    async with connect(f"redis+cluster://127.0.0.1:{free_port()}", timeout=1) as store:
        with pytest.raises(LedgerUnavailableError, match=r"cannot be connected|stood still"):
            await question(store)
