"""One lineage of the ledger between two losses, for all processes (H68, H105, H107)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress

import pytest
from redis import Redis
from redis.crc import key_slot

from immuproxy.ledger import keys
from immuproxy.ledger.epoch import Epoch
from immuproxy.store.redis import LedgerUnavailableError, Store, connect
from tests.store.test_sentinel import fail, is_master, until
from tests.support.conversation import Answer, RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer

Copy = list[tuple[bytes | str, bytes]]


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    async with connect(redis_server.url, timeout=5) as opened:
        yield opened


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(redis_server.url) as client:
        yield client


async def begun(store: Store, *, processes: int = 3) -> list[Epoch]:
    """Processes that know the ledger, and a repository in it."""
    epochs = [Epoch(store, quarantine=30) for _ in range(processes)]
    for epoch in epochs:
        await epoch.beat()
        await epoch.list("team/app")
    return epochs


def names(admin: Redis) -> list[str]:
    found = admin.hget(keys.LINEAGE, "names")
    return found.decode().split() if isinstance(found, bytes) else []


def copied(admin: Redis) -> Copy:
    return [(name, value) for name in admin.keys("*") if (value := admin.dump(name))]


def put_back(admin: Redis, copy: Copy) -> None:
    admin.flushall()
    for name, value in copy:
        admin.restore(name, 0, value)


async def looks(epochs: list[Epoch]) -> None:
    """All of them at once, several times."""
    for _ in range(3):
        await asyncio.gather(*(epoch.list("team/app") for epoch in epochs), *(epoch.beat() for epoch in epochs))


def test_h70_what_is_compared_in_one_step_lies_in_one_slot() -> None:
    assert len({key_slot(key.encode()) for key in (keys.REPOSITORIES, keys.LINEAGE, keys.BEATS)}) == 1


async def test_a_ledger_without_a_lineage_is_taken_over_silently(store: Store, admin: Redis) -> None:
    admin.sadd(keys.REPOSITORIES, "team/app")
    epochs = await begun(store)
    assert [epoch.recovering() for epoch in epochs] == [0, 0, 0]
    assert len(names(admin)) == 1
    await looks(epochs)
    assert [epoch.recovering() for epoch in epochs] == [0, 0, 0]


@pytest.mark.parametrize("loss", ["emptied", "older", "of another ledger"])
async def test_h105_all_hear_of_a_loss_and_it_is_told_once(store: Store, admin: Redis, loss: str) -> None:
    epochs = await begun(store)
    older = copied(admin)
    if loss == "of another ledger":
        admin.flushall()
        await Epoch(store, quarantine=30).beat()
    elif loss == "older":
        await looks(epochs)
        put_back(admin, older)
    else:
        admin.flushall()
    before = names(admin)
    await looks(epochs)
    assert all(epoch.recovering() > 25 for epoch in epochs)
    told = names(admin)
    assert len(told) <= len(before) + 2, "the new name, and what was known before"
    lineages = {await epoch.list("team/app") for epoch in epochs}
    await looks(epochs)
    assert names(admin) == told
    assert lineages == {told[0]}


async def test_h105_who_slept_through_the_loss_of_a_copy_that_was_put_back_hears_of_it(
    store: Store, admin: Redis
) -> None:
    """For the sleeper the copy is new enough: only the other knows that there was another ledger in between."""
    awake, asleep = await begun(store, processes=2)
    before = await asleep.list("team/app")
    older = copied(admin)
    admin.flushall()
    await awake.beat()
    put_back(admin, older)
    await awake.beat()
    await looks([awake, asleep])
    assert await asleep.list("team/app") not in {before, ""}
    assert asleep.recovering() > 25
    told = names(admin)
    await looks([awake, asleep])
    assert names(admin) == told


async def test_h105_a_beat_that_others_have_passed_since_is_missed(store: Store, admin: Redis) -> None:
    """The copy lacks the last beat of one process, and another goes first."""
    first, second = await begun(store, processes=2)
    older = copied(admin)
    await second.beat()
    put_back(admin, older)
    await first.beat()
    await first.beat()
    assert first.recovering() == 0
    await second.beat()
    assert second.recovering() > 25
    await first.beat()
    assert first.recovering() > 25


async def test_h105_who_starts_after_a_loss_waits_for_the_rest_of_the_quarantine(store: Store, admin: Redis) -> None:
    (old,) = await begun(store, processes=1)
    admin.flushall()
    await old.beat()
    admin.hincrby(keys.LINEAGE, "lost", -20_000)
    new, later = Epoch(store, quarantine=30), Epoch(store, quarantine=15)
    await new.beat()
    await later.beat()
    assert 5 < new.recovering() <= 10
    assert later.recovering() == 0


async def test_h105_processes_that_are_long_gone_leave_nothing(store: Store, admin: Redis) -> None:
    (epoch,) = await begun(store, processes=1)
    counted = 1 + int(admin.zscore(keys.BEATS, "counter") or 0)
    for number in range(1100):
        admin.zadd(keys.BEATS, {f"gone{number}": 0})
    await epoch.beat()
    assert admin.zcard(keys.BEATS) == 1000
    assert admin.zscore(keys.BEATS, "counter") == counted
    await epoch.beat()
    assert epoch.recovering() == 0


# --- a failover by Sentinel that waits for no replica


@pytest.fixture
async def failing_over(registry: RegistryServer, sentinel: int) -> AsyncIterator[RunningEdge]:
    async with edge_over(registry.url, f"redis+sentinel://127.0.0.1:{sentinel}/ledger", redis_timeout=1) as edge:
        yield edge


async def taken_over(edge: RunningEdge, replica: RedisServer) -> None:
    await until(lambda: is_master(replica))
    async with asyncio.timeout(30):
        while True:
            with suppress(LedgerUnavailableError):
                await edge.parts.epoch.beat()
                return
            await asyncio.sleep(0.05)


async def answered(ask: Callable[[], Awaitable[Answer]]) -> int:
    """The status, once it is no 503: on a busy machine the Sentinels soon take the new master for down as well."""
    async with asyncio.timeout(30):
        while (status := (await ask()).status) == 503:
            await asyncio.sleep(0.05)
    return status


@pytest.mark.parametrize("fate", ["planned", "killed"])
async def test_h107_a_failover_that_lost_nothing_starts_no_quarantine(
    failing_over: RunningEdge, redis_server: RedisServer, replica: RedisServer, sentinel: int, fate: str
) -> None:
    edge = failing_over
    assert (await edge.client.push("team/app", "1.0", image("one"))).status == 201
    await edge.parts.epoch.beat()
    with Redis(port=redis_server.port) as client:
        assert client.wait(1, 5000) == 1, "else the beat may be lost"
    fail(fate, redis_server, sentinel)
    await taken_over(edge, replica)
    assert edge.parts.epoch.recovering() == 0
    assert await answered(lambda: edge.client.push("team/app", "2.0", image("two"))) == 201
    assert await answered(lambda: edge.client.push("team/app", "1.0", image("two"))) == 409


@pytest.mark.parametrize("beats", [0, 1])
async def test_h107_what_a_failover_lost_is_not_deleted_and_a_lost_beat_starts_the_quarantine(
    failing_over: RunningEdge, redis_server: RedisServer, replica: RedisServer, sentinel: int, beats: int
) -> None:
    edge, ours, loose = failing_over, image("ours"), image("loose")
    for pushed in (ours, loose):
        assert (await edge.client.push("team/app", pushed.digest, pushed)).status == 201
    assert (await edge.client.ask("DELETE", f"/v2/team/app/manifests/{loose.digest}")).status == 202
    await edge.parts.epoch.beat()
    with Redis(port=redis_server.port) as client:
        client.wait(1, 5000)
        replica.pause()
        client.client_kill_filter(_type="replica")
    assert (await edge.client.put("team/app", "1.0", ours)).status == 201
    for _ in range(beats):
        await edge.parts.epoch.beat()
    redis_server.kill()
    replica.resume()
    await taken_over(edge, replica)
    assert (edge.parts.epoch.recovering() > 0) == bool(beats)
    assert await answered(lambda: edge.client.ask("DELETE", f"/v2/team/app/manifests/{ours.digest}")) == 405
    assert (await edge.direct.pull("team/app", "1.0")).digest == ours.digest


async def test_h106_a_server_that_was_a_replica_in_between_is_another(
    registry: RegistryServer, redis_server: RedisServer, replica: RedisServer
) -> None:
    """It goes on running, and has what the other had."""
    ours, loose = image("ours"), image("loose")
    async with edge_over(registry.url, redis_server.url) as edge:
        for pushed in (ours, loose):
            assert (await edge.client.push("team/app", pushed.digest, pushed)).status == 201
        assert (await edge.client.ask("DELETE", f"/v2/team/app/manifests/{loose.digest}")).status == 202
        with Redis(port=redis_server.port) as old, Redis(port=replica.port) as new:
            old.wait(1, 5000)
            new.replicaof("NO", "ONE")
            assert (await edge.client.put("team/app", "1.0", ours)).status == 201
            old.replicaof("127.0.0.1", replica.port)
            await until(lambda: old.info("replication").get("master_link_status") == "up")
            old.replicaof("NO", "ONE")
        assert (await edge.client.ask("DELETE", f"/v2/team/app/manifests/{ours.digest}")).status == 405
        assert edge.parts.epoch.recovering() == 0
