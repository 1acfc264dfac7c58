"""What an old master says after a promotion counts for nothing (H99)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from redis import Redis
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import ResponseError

from immuproxy.ledger import keys
from immuproxy.ledger.content import Content
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.model import Step
from immuproxy.ledger.register import Register
from immuproxy.store.redis import Durability, LedgerUnavailableError, Store, connect
from immuproxy.store.sentinel import FRESH, Address, Said, Sentinels
from tests.invariants.topologies import Sentinels as Watched
from tests.support.conversation import image
from tests.support.servers import RedisServer, Server, wait_until

CONTENT = Content(digest=image("one").digest, needs=frozenset())


class Load:
    """Claims of new tags, and reads of those that were acknowledged."""

    def __init__(self, store: Store) -> None:
        self.register = Register(store, Epoch(store, quarantine=30))
        self.taken: list[str] = []
        self.lost: list[str] = []
        self.refused = 0
        self.reads = 0

    async def claim(self, worker: int) -> None:
        for number in itertools.count():
            tag = f"{worker}.{number}"
            with self.refusals():
                reply = await self.register.claim("team/app", tag, CONTENT, token="ours", lease_ms=600_000)
                assert reply.step is Step.CLAIMED
                self.taken.append(tag)
            await asyncio.sleep(0.002)

    async def read(self) -> None:
        for number in itertools.count():
            taken = len(self.taken)
            if taken:
                with self.refusals():
                    await self.check(self.taken[taken - 1 - number % min(taken, 20)])
            await asyncio.sleep(0.002)

    async def check(self, tag: str) -> None:
        record = await self.register.read("team/app", tag)
        self.reads += 1
        if record.claim is None:
            self.lost.append(tag)

    @contextmanager
    def refusals(self) -> Iterator[None]:
        try:
            yield
        except LedgerUnavailableError:
            self.refused += 1

    async def settled(self) -> None:
        """All that was acknowledged is still there."""
        for tag in self.taken:
            await self.check(tag)
        assert not self.lost


@asynccontextmanager
async def under_load(sentinel: int) -> AsyncIterator[Load]:
    url = f"redis+sentinel://127.0.0.1:{sentinel}/ledger"
    async with connect(url, timeout=1, durability=Durability(replicas=1, timeout=0.3)) as store:
        load = Load(store)
        tasks = [asyncio.create_task(load.claim(worker)) for worker in range(4)]
        tasks += [asyncio.create_task(load.read()) for _ in range(4)]
        try:
            await until(lambda: len(load.taken) > 20)
            yield load
        finally:
            while tasks:  # redis-py swallows a cancellation that meets a connection just dropped
                for task in tasks:
                    task.cancel()
                _, pending = await asyncio.wait(tasks, timeout=0.5)
                tasks = list(pending)


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def fail(fate: str, master: RedisServer, sentinel: int) -> None:
    match fate:
        case "planned":
            wait_until(lambda: promotes(sentinel), "the sentinel to find the replica good enough")
        case "killed":
            master.kill()
        case "frozen":
            master.pause()


def promotes(sentinel: int) -> bool:
    """Whether it begins a failover; not where it has not yet heard of the replica's state."""
    with Redis(port=sentinel) as client, suppress(ResponseError):
        client.execute_command("SENTINEL", "FAILOVER", "ledger")
        return True
    return False


def is_master(server: RedisServer) -> bool:
    with Redis(port=server.port) as client:
        return bool(client.info("replication")["role"] == "master")


@pytest.mark.parametrize("fate", ["planned", "killed", "frozen"])
async def test_h99_no_step_that_was_acknowledged_is_lost_in_a_failover(
    redis_server: RedisServer, replica: RedisServer, sentinel: int, fate: str
) -> None:
    async with under_load(sentinel) as load:
        fail(fate, redis_server, sentinel)
        await until(lambda: is_master(replica))
        if fate == "frozen":
            redis_server.resume()
        read = load.reads
        await until(lambda: load.reads > read + 200)
        await load.settled()


@pytest.mark.parametrize("fate", ["planned", "frozen"])
async def test_h99_nobody_reads_from_the_old_master_once_there_is_another(
    redis_server: RedisServer, replica: RedisServer, sentinel: int, fate: str
) -> None:
    """No replica is waited for: the old one goes on as a master for seconds."""
    async with connect(f"redis+sentinel://127.0.0.1:{sentinel}/ledger", timeout=1) as store:
        await store.do(store.client.set("immuproxy:seen", "old"))
        wait_until(lambda: value_at(replica) == b"old", "the replica to follow")
        fail(fate, redis_server, sentinel)
        await until(lambda: is_master(replica))
        with Redis(port=replica.port) as client:
            client.set("immuproxy:seen", "new")
        if fate == "frozen":
            redis_server.resume()
        assert value_at(redis_server) == b"old"
        seen: list[bytes] = []
        while len(seen) < 50:
            try:
                seen.append(await store.do(store.client.get("immuproxy:seen")))
            except LedgerUnavailableError:
                await asyncio.sleep(0.01)
        assert set(seen) == {b"new"}


def value_at(server: RedisServer) -> bytes | None:
    with Redis(port=server.port) as client:
        value: bytes | None = client.get("immuproxy:seen")
    return value


async def test_h99_while_a_new_master_is_chosen_nothing_that_was_read_is_confirmed(
    replica: RedisServer, redis_server: RedisServer, sentinel: int
) -> None:
    """So the healer puts nothing right by what an old master said."""
    async with connect(f"redis+sentinel://127.0.0.1:{sentinel}/ledger", timeout=1) as store:
        await store.confirm()
        fail("planned", redis_server, sentinel)
        with pytest.raises(LedgerUnavailableError, match="choose a new master"):
            await store.confirm()
        await until(lambda: is_master(replica))


async def test_h122_a_sentinel_that_falls_silent_in_a_failover_leaves_the_master_unsure(tmp_path: Path) -> None:
    """The two others have not heard of the replica that it promoted, and name the old master, which answers as one."""
    ledger = Watched(tmp_path, {})
    servers: list[Server] = [*ledger.servers, *ledger.watchers]
    with ExitStack() as stack:
        for server in servers:
            server.start()
            stack.callback(server.kill)
        await asyncio.to_thread(ledger.form)
        old, *replicas = ledger.servers
        leader = ledger.watchers[0]
        async with connect(ledger.url, timeout=1) as store:
            await store.do(store.client.set("immuproxy:seen", "old"))
            await asyncio.to_thread(wait_until, lambda: promotes(leader.port), "the replicas to be good enough")
            with pytest.raises(LedgerUnavailableError, match="choose a new master"):
                await store.confirm()
            await until(lambda: any(map(is_master, replicas)))
            leader.pause()
            stack.callback(leader.resume)
            with Redis(port=next(filter(is_master, replicas)).port) as client:
                client.set("immuproxy:seen", "new")
            assert value_at(old) == b"old"
            for _ in range(5):
                with suppress(LedgerUnavailableError):
                    assert await store.do(store.client.get("immuproxy:seen")) == b"new"
                await asyncio.sleep(FRESH / 4)


OLD, NEW = ("old", 1), ("new", 1)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([(1, OLD, 0)], OLD),
        ([(1, OLD, 0), (2, NEW, 0)], NEW),
        ([(1, OLD, 0), (2, NEW, 5)], None),
        ([(1, OLD, 0), (2, NEW, 60)], OLD),
        ([(1, OLD, 0), (1, None, 0)], None),
        ([(1, None, 0), (2, NEW, 0)], NEW),
        ([(1, OLD, 0), (1, None, 5)], None),
        ([(1, OLD, 0), (1, None, 60)], OLD),
        ([(2, NEW, 5)], None),
        ([], None),
    ],
)
async def test_h99_the_newest_configuration_counts_while_it_is_fresh(
    said: list[tuple[int, Address | None, float]], expected: Address | None
) -> None:
    sentinels, now = Sentinels([], "ledger"), asyncio.get_running_loop().time()
    sentinels._said = {n: Said(epoch, master, now - age) for n, (epoch, master, age) in enumerate(said)}
    if expected:
        assert sentinels.master() == expected
    else:
        with pytest.raises(MasterNotFoundError):
            sentinels.master()


async def test_h99_a_beat_that_no_replica_had_is_no_loss_when_a_failover_forgets_it(
    redis_server: RedisServer, replica: RedisServer
) -> None:
    durability = Durability(replicas=1, timeout=1.0)  # a busy machine needs some of it to confirm anything
    async with connect(redis_server.url, timeout=1, durability=durability) as store:
        epoch = Epoch(store, quarantine=30)
        await epoch.beat()
        await epoch.list("team/app")
        kept = await store.do(store.client.dump(keys.BEATS))
        replica.pause()
        for step in (epoch.beat(), epoch.beat(), epoch.list("team/new")):
            with pytest.raises(LedgerUnavailableError, match="0 of 1 replicas"):
                await step
        replica.resume()
        await store.do(store.client.restore(keys.BEATS, 0, kept, replace=True))
        await store.do(store.client.srem(keys.REPOSITORIES, "team/new"))
        await epoch.beat()
        await epoch.list("team/new")
        assert epoch.recovering() == 0
