"""`upstream.exclusive`: first pushes go without a look at a registry that nobody else writes to (H138)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from immuproxy.edge import second_look
from immuproxy.ledger import keys
from immuproxy.service.assembly import Choices
from tests.support.between import Between, Request, between
from tests.support.conversation import RULES, Answer, RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY = "team/app"
OURS, OTHER = image("ours"), image("other")
MAY_MOVE = """
rules:
  - {name: moving, tags: [dev], policy: mutable}
default: immutable
"""
MANIFESTS = f"/v2/{REPOSITORY}/manifests/"


@pytest.fixture(autouse=True)
def _no_second_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_look, "BEHIND_PUSHES", 0)


@pytest.fixture
async def relay(registry: RegistryServer) -> AsyncIterator[Between]:
    async with between(registry.url) as standing:
        yield standing


@asynccontextmanager
async def alone(url: str, redis: RedisServer, *, rules: str = RULES) -> AsyncIterator[RunningEdge]:
    choices = Choices(manifest_timeout=5.0, exclusive=True)
    async with edge_over(url, redis.url, rules=rules, choices=choices) as running:
        yield running


@pytest.fixture
async def edge(relay: Between, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    async with alone(relay.url, redis_server) as running:
        yield running


async def known(edge: RunningEdge, tag: str = "0.1") -> None:
    """The repository has been pushed to, and looked through behind that."""
    assert (await edge.client.push(REPOSITORY, tag, image(tag))).status == 201
    async with asyncio.timeout(10):
        while edge.parts.adoptions.of(REPOSITORY) is None:
            await asyncio.sleep(0.01)


def looked_at(relay: Between, tag: str) -> bool:
    return ("GET", MANIFESTS + tag) in relay.asked


async def test_h138_the_first_push_to_a_repository_looks_and_the_next_ones_do_not(
    edge: RunningEdge, relay: Between
) -> None:
    await known(edge)
    assert looked_at(relay, "0.1")
    assert (await edge.client.push(REPOSITORY, "1.0", OURS)).status == 201
    assert not looked_at(relay, "1.0")
    assert (await edge.client.push(REPOSITORY, "1.0", OTHER)).status == 409
    assert (await edge.client.pull(REPOSITORY, "1.0")).digest == OURS.digest


async def test_h138_without_the_setting_each_first_push_looks(relay: Between, redis_server: RedisServer) -> None:
    async with edge_over(relay.url, redis_server.url) as edge:
        for tag in ("1.0", "2.0"):
            await edge.client.push(REPOSITORY, tag, OURS)
            assert looked_at(relay, tag)
        assert edge.parts.adoptions.of(REPOSITORY) is None


async def test_h138_what_predates_the_ledger_is_adopted_first(edge: RunningEdge) -> None:
    await edge.direct.push(REPOSITORY, "1.0", OURS)
    await edge.direct.push(REPOSITORY, "2.0", OURS)
    assert (await edge.client.push(REPOSITORY, "1.0", OTHER)).status == 409
    await known(edge)
    found = await edge.parts.register.read(REPOSITORY, "2.0")
    assert found.committed
    assert found.committed.digest == OURS.digest
    assert (await edge.client.push(REPOSITORY, "2.0", OTHER)).status == 409


async def test_h138_an_emptied_ledger_knows_of_nothing(edge: RunningEdge, relay: Between) -> None:
    await known(edge)
    await edge.client.push(REPOSITORY, "1.0", OURS)
    await edge.store.do(edge.store.client.flushall())
    assert (await edge.client.push(REPOSITORY, "1.0", OTHER)).status == 409
    assert looked_at(relay, "1.0")


@pytest.mark.parametrize("lost", ["the name", "the server"])
async def test_h138_a_part_of_the_ledger_that_was_lost_is_noticed_in_the_step_itself(
    edge: RunningEdge, relay: Between, redis_server: RedisServer, lost: str
) -> None:
    """As where a shard of a cluster comes back older, and the one with the lineage does not (H106)."""
    await known(edge)
    await edge.client.push(REPOSITORY, "1.0", OURS)
    if lost == "the name":
        await edge.store.do(edge.store.client.delete(keys.adopted(REPOSITORY)))
    else:
        before = edge.parts.adoptions._known[REPOSITORY]
        assert before[1].part.split()[1:]  # run_id and master_replid
        await edge.store.do(edge.store.client.execute_command("REPLICAOF", "127.0.0.1", redis_server.port))
        await edge.store.do(edge.store.client.execute_command("REPLICAOF", "NO", "ONE"))
    await edge.store.do(edge.store.client.delete(keys.tag(REPOSITORY, "1.0")))
    assert (await edge.client.push(REPOSITORY, "1.0", OTHER)).status == 409
    assert looked_at(relay, "1.0")


async def test_h138_an_older_copy_that_is_put_back_key_by_key_is_noticed(
    edge: RunningEdge, relay: Between, redis_server: RedisServer
) -> None:
    await known(edge)
    await edge.parts.epoch.beat()
    client = edge.store.client
    copy = {key: await edge.store.do(client.dump(key)) for key in await edge.store.do(client.keys())}
    await edge.client.push(REPOSITORY, "1.0", OURS)
    await edge.parts.epoch.beat()
    await edge.store.do(client.flushall())
    for key, value in copy.items():
        await edge.store.do(client.restore(key, 0, value))
    assert (await edge.client.push(REPOSITORY, "1.0", OTHER)).status == 409
    assert looked_at(relay, "1.0")


async def test_h138_a_tag_that_may_have_moved_by_another_proxys_rules_is_looked_at(
    edge: RunningEdge, relay: Between, redis_server: RedisServer
) -> None:
    """A new rules file reaches the proxies one after the other."""
    await known(edge)
    async with alone(relay.url, redis_server, rules=MAY_MOVE) as older:
        assert (await older.client.push(REPOSITORY, "dev", OURS)).status == 201
    assert (await edge.client.push(REPOSITORY, "dev", OTHER)).status == 409
    assert (await edge.client.pull(REPOSITORY, "dev")).digest == OURS.digest


async def test_h138_with_new_rules_the_repository_is_looked_through_again(edge: RunningEdge, relay: Between) -> None:
    await known(edge)
    edge.use_rules(MAY_MOVE)
    assert (await edge.client.push(REPOSITORY, "1.0", OURS)).status == 201
    assert looked_at(relay, "1.0")
    await known(edge, "1.1")


def foreign_writes(edge: RunningEdge) -> float:
    [metric] = edge.metrics._foreign_writes.collect()
    return metric.samples[0].value


async def test_h138_what_somebody_else_wrote_is_told_loudly_and_all_look_again(
    edge: RunningEdge, relay: Between, redis_server: RedisServer
) -> None:
    await known(edge)
    async with alone(relay.url, redis_server) as other:
        await known(other, "0.2")
        for tag in ("3.0", "3.1"):
            await edge.direct.push(REPOSITORY, tag, OURS)
        with capture_logs() as said:
            assert (await edge.client.pull(REPOSITORY, "3.0")).digest == OURS.digest
        [told] = [line for line in said if line["log_level"] == "error"]
        assert "upstream.exclusive is wrong" in told["event"]
        assert (told["repository"], told["tag"], told["digest"]) == (REPOSITORY, "3.0", OURS.digest)
        assert foreign_writes(edge) == 1
        for each, tag in ((edge, "4.0"), (other, "4.1")):
            await each.client.push(REPOSITORY, tag, OURS)
            assert looked_at(relay, tag)
        assert (await other.client.push(REPOSITORY, "3.1", OTHER)).status == 409


async def test_h138_what_is_adopted_before_a_repository_was_looked_through_is_nobodys_fault(edge: RunningEdge) -> None:
    await edge.direct.push(REPOSITORY, "1.0", OURS)
    await edge.client.pull(REPOSITORY, "1.0")
    assert foreign_writes(edge) == 0


async def test_h138_drift_is_somebody_elses_write_too(edge: RunningEdge, relay: Between) -> None:
    await known(edge)
    await edge.client.push(REPOSITORY, "1.0", OURS)
    await edge.direct.push(REPOSITORY, "1.0", OTHER)
    assert await edge.parts.healer.check(await edge.parts.register.read(REPOSITORY, "1.0"))
    assert foreign_writes(edge) == 1
    await edge.client.push(REPOSITORY, "2.0", OURS)
    assert looked_at(relay, "2.0")


async def test_h138_where_the_tags_cannot_be_listed_each_first_push_looks(edge: RunningEdge, relay: Between) -> None:
    async def closed(request: Request) -> Answer | None:
        return await request.forward(request.target.replace("/tags/list", "/tags/lost"))

    relay.act = closed
    for tag in ("1.0", "2.0"):
        assert (await edge.client.push(REPOSITORY, tag, OURS)).status == 201
        while edge.parts.adoptions._under_way:
            await asyncio.sleep(0.01)
        assert looked_at(relay, tag)
    asked = [target for _, target in relay.asked if "/tags/list" in target]
    assert len(asked) == 1
