"""Who holds and who needs a digest is known without reading every record of a repository (H86)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from immuproxy.ledger import keys
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.register import Register
from immuproxy.store.redis import Store, connect
from tests.support.conversation import RunningEdge, edge_over, image, sha256
from tests.support.servers import RedisServer, RegistryServer
from tests.support.side_by_side import REPOSITORY, fill


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    async with connect(redis_server.url, timeout=5.0) as opened:
        yield opened


@pytest.fixture
def register(store: Store) -> Register:
    return Register(store, Epoch(store, quarantine=1.0))


async def calls(store: Store, command: str) -> int:
    """How often Redis was given a command."""
    found = await store.do(store.client.info("commandstats"))
    return int(found.get(f"cmdstat_{command}", {"calls": 0})["calls"])


async def test_a_ledger_that_is_older_than_the_index_is_indexed_when_it_is_asked(
    register: Register, store: Store, redis_server: RedisServer
) -> None:
    await fill(redis_server, 1200)
    for number in (0, 700, 1199):
        assert await register.holders.of(REPOSITORY, f"sha256:{number:064x}") == [f"0.{number}"]
    assert await register.holders.of(REPOSITORY, f"sha256:{1200:064x}") == []
    assert await store.do(store.client.zcard(keys.holders(REPOSITORY))) == 1200
    assert await calls(store, "evalsha") + await calls(store, "eval") < 10


async def test_many_tags_of_one_digest_are_told_in_their_order_and_up_to_a_limit(
    edge_of_many: RunningEdge,
) -> None:
    holders, digest = edge_of_many.parts.register.holders, image("one").digest
    assert await holders.of(REPOSITORY, digest) == ["1.0", "1.1", "1.10"]
    assert await holders.of(REPOSITORY, digest, limit=2) == ["1.0", "1.1"]
    assert await holders.of(REPOSITORY, digest[:-1]) == []
    assert await holders.needing(REPOSITORY, sha256(image("one").blobs[1])) in {"1.0", "1.1", "1.10"}
    assert await holders.needing(REPOSITORY, sha256(b"nothing")) == ""


@pytest.fixture
async def edge_of_many(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    async with edge_over(registry.url, redis_server.url) as running:
        for tag in ("1.10", "1.0", "1.1"):
            await running.client.push(REPOSITORY, tag, image("one"))
        await running.client.push(REPOSITORY, "2.0", image("two"))
        yield running


async def test_h86_a_delete_of_an_unknown_digest_reads_no_record(
    edge_of_many: RunningEdge, redis_server: RedisServer
) -> None:
    await fill(redis_server, 1200)
    path = f"/v2/{REPOSITORY}/manifests/{sha256(b'unknown')}"
    assert (await edge_of_many.client.ask("DELETE", path)).status == 404
    before = await calls(edge_of_many.store, "hmget")
    assert (await edge_of_many.client.ask("DELETE", path)).status == 404
    assert await calls(edge_of_many.store, "hmget") - before < 5
