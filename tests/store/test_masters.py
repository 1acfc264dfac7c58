"""Whose word counts in a cluster, of real servers that stand still and go on (H132)."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import pytest
from redis import Redis
from redis.asyncio import RedisCluster

from immuproxy.store import cancelling, masters
from immuproxy.store.cluster import in_cluster
from immuproxy.store.masters import Address, View, chosen, view
from immuproxy.store.redis import LedgerUnavailableError, Store, connect
from tests.support.clusters import cluster_url, master_of, started_cluster
from tests.support.servers import RedisServer, wait_until

KEY = "immuproxy:{team/app}:tried"

# The cluster client of redis-py leaves connections that it gave up on to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def servers(start_redis: Callable[..., RedisServer]) -> Iterator[list[RedisServer]]:
    """Three masters; the fourth server follows the one that has `KEY`."""
    yield started_cluster(start_redis, masters=3, followed=[master_of("team/app", 3)])
    gc.collect()


@pytest.fixture
async def store(servers: list[RedisServer]) -> AsyncIterator[Store]:
    async with connect(cluster_url(servers), timeout=20) as store:
        await store.do(store.client.set(KEY, "old"))
        yield store


def is_master(server: RedisServer) -> bool:
    with Redis(port=server.port) as client:
        return bool(client.info("replication")["role"] == "master")


async def read(store: Store) -> bytes | None:
    try:
        return await store.do(store.client.get(KEY))  # type: ignore[no-any-return]  # redis-py leaves it untyped
    except LedgerUnavailableError:
        return None


async def test_h132_a_master_that_stood_still_is_not_believed_once_another_has_taken_over(
    store: Store, servers: list[RedisServer]
) -> None:
    """Its answers to what waited for it come before it can hear of that."""
    old, new = servers[master_of("team/app", 3)], servers[3]
    old.pause()
    waiting = [asyncio.create_task(read(store)) for _ in range(20)]
    await asyncio.to_thread(wait_until, lambda: is_master(new), "the replica to take over", 60)
    with Redis(port=new.port) as client:
        client.set(KEY, "new")
    old.resume()
    assert set(await asyncio.gather(*waiting)) <= {None, b"new"}
    async with asyncio.timeout(20):
        while (found := await read(store)) is None:
            await asyncio.sleep(0.05)
    assert found == b"new"


async def test_h132_a_master_that_stood_still_and_was_not_replaced_is_believed_again(
    store: Store, servers: list[RedisServer]
) -> None:
    old = servers[master_of("team/app", 3)]
    with Redis(port=servers[3].port) as client:
        client.config_set("cluster-replica-no-failover", "yes")
    old.pause()
    waiting = asyncio.create_task(read(store))
    await asyncio.sleep(masters.QUIET * 2)
    old.resume()
    await waiting
    async with asyncio.timeout(20):
        while await read(store) is None:
            await asyncio.sleep(0.05)
    assert await read(store) == b"old"


async def test_h132_a_master_that_answers_is_not_asked_about_again_and_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[int]()

    def counted(views: Mapping[Address, View]) -> set[Address]:
        asked.append(len(views))
        return chosen(views)

    await asyncio.sleep(masters.QUIET * 3)
    monkeypatch.setattr(masters, "chosen", counted)
    assert {await read(store) for _ in range(200)} == {b"old"}
    assert len(asked) < 10  # a busy machine lets some seconds pass in between


async def test_h66_replies_that_nobody_waits_for_any_more_are_nobody_elses(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several commands that travel together, one who is cancelled while the first reply is confirmed."""
    doubts = asyncio.Event()

    async def doubted(*_: object) -> None:
        doubts.set()
        await asyncio.sleep(60)

    both = (("GET", KEY), ("EXISTS", KEY))
    cluster = store.client
    assert isinstance(cluster, RedisCluster)
    with monkeypatch.context() as patched:
        patched.setattr(masters.Masters, "check", doubted)
        asking = asyncio.create_task(in_cluster(cluster, KEY, both))
        await doubts.wait()
        await cancelling.end({asking})
    for _ in range(10):
        assert await in_cluster(cluster, KEY, both) == [b"old", 1]


NODES = b"""\
a1 127.0.0.1:1@11,one.example myself,master - 0 0 3 connected 0-5460 [5461->-b1]
b1 127.0.0.1:2@12 master,fail? - 0 0 2 connected 5461-10922
c1 127.0.0.1:3@13 slave d1 0 0 4 connected
d1 127.0.0.1:4@14 master - 0 0 4 connected 10923-16383
e1 :0@0 master,noaddr - 0 0 1 disconnected
"""


def test_a_view_is_what_a_node_says_of_those_that_have_slots() -> None:
    assert view(NODES) == View("a1", frozenset({"a1", "b1", "d1"}), frozenset({"a1", "d1"}))


ALL, NOW = frozenset("abc"), frozenset("bcd")


@pytest.mark.parametrize(
    ("views", "believed"),
    [
        ({1: View("a", ALL, ALL), 2: View("b", ALL, ALL), 3: View("c", ALL, ALL)}, {1, 2, 3}),
        ({1: View("a", ALL, ALL), 2: View("b", ALL, ALL - {"a"}), 3: View("c", ALL, ALL - {"a"})}, {2, 3}),
        ({1: View("a", ALL, ALL)}, set()),  # two others can have chosen another
        ({1: View("a", ALL, ALL), 2: View("b", ALL, ALL)}, {1, 2}),  # the third alone cannot
        ({1: View("a", ALL - {"c"}, ALL - {"c"})}, {1}),  # of two, one cannot
        ({1: View("a", NOW, NOW), 2: View("b", NOW, NOW), 4: View("d", NOW, NOW)}, {2, 4}),  # it knows it already
        ({}, set()),
    ],
)
def test_h132_a_master_counts_as_long_as_too_few_can_have_voted_for_another(
    views: dict[int, View], believed: set[int]
) -> None:
    assert chosen({("host", port): each for port, each in views.items()}) == {("host", port) for port in believed}
