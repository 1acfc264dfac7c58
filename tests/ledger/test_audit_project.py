"""Each event of an outbox enters the audit once, in its order, whoever carries it and however often they die."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
from immuproxy.ledger.audit import Audit, entries
from redis.crc import key_slot

from immuproxy.audit.search import Search, parse
from immuproxy.ledger import keys
from immuproxy.ledger.model import Event
from immuproxy.ledger.record import Projector
from immuproxy.ledger.redis import _SCRIPTS, Argument, LedgerUnavailableError, Store, connect
from tests.audit.made_up import made_up_events
from tests.servers import RedisServer

START = 1_700_000_000_000


@pytest_asyncio.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    async with connect(redis_server.url, timeout=5) as opened:
        yield opened


async def publish(store: Store, *events: Event) -> None:
    """As the scripts of the register do."""
    for event in events:
        await store.do(store.client.sadd(keys.REPOSITORIES, event.repository))
        await store.do(store.client.xadd(keys.outbox(event.repository), {"event": json.dumps(event.to_dict())}))


async def held(store: Store) -> list[Event]:
    return [event async for event in Audit(store).export(Search())][::-1]


async def outbox_lengths(store: Store, events: list[Event]) -> set[int]:
    return {int(await store.client.xlen(keys.outbox(event.repository))) for event in events}


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.005)


async def arrived(store: Store, count: int) -> bool:
    with contextlib.suppress(LedgerUnavailableError):
        return await Audit(store).total() >= count
    return False


@contextlib.asynccontextmanager
async def running(projector: Projector) -> AsyncIterator[None]:
    task = asyncio.create_task(projector.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_events_arrive_unchanged_and_the_outbox_is_empty(store: Store) -> None:
    events = [replace(event, time=START + number) for number, event in enumerate(made_up_events(250, repositories=1))]
    await publish(store, *events)
    assert await Projector(store).drain(events[0].repository) == 250
    assert await held(store) == events
    assert await outbox_lengths(store, events) == {0}


async def test_how_long_the_oldest_event_has_waited_is_told_at_each_look(store: Store) -> None:
    first, second = (replace(event, repository=event.id) for event in made_up_events(2))
    await publish(store, second)
    seconds, _ = await store.do(store.client.time())
    await store.do(store.client.sadd(keys.REPOSITORIES, first.repository))
    waiting: dict[Any, Any] = {"event": json.dumps(first.to_dict())}
    await store.do(store.client.xadd(keys.outbox(first.repository), waiting, id=f"{(seconds - 100) * 1000}-0"))
    told: list[float] = []
    projector = Projector(store, on_lag=told.append)
    await projector.sweep()
    await projector.sweep()
    assert 100 <= told[0] < 110
    assert told[1] == 0


async def test_what_a_script_encoded_is_read(store: Store) -> None:
    (event,) = made_up_events(1, start=START)
    by_script = "redis.call('XADD', KEYS[1], '*', 'event', cjson.encode(cjson.decode(ARGV[1]))) return 1"
    await store.client.eval(by_script, 1, keys.outbox(event.repository), json.dumps(event.to_dict()))
    await Projector(store).drain(event.repository)
    assert await held(store) == [event]


class DyingStore(Store):
    """Does what it is told and then, now and then, loses the reply, as a crash or a cut line would."""

    def __init__(self, store: Store, chance: random.Random) -> None:
        super().__init__(store.client)
        self._chance = chance

    async def script(self, name: str, keys: Sequence[str], args: Sequence[Argument] = ()) -> Any:
        return self._maybe_lost(await super().script(name, keys, args))

    async def do(self, command: Any) -> Any:
        return self._maybe_lost(await super().do(command))

    def _maybe_lost(self, reply: object) -> object:
        if self._chance.random() < 0.3:
            raise LedgerUnavailableError("the line was cut")
        return reply


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_racing_and_dying_projectors_take_each_event_once_and_in_order(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    events = list(made_up_events(600, seed=seed, repositories=6, start=START, days=0.01))
    projectors = [Projector(DyingStore(store, chance)) for _ in range(3)]
    names = sorted({event.repository for event in events})

    async def carry(projector: Projector) -> None:
        for _ in range(60):
            with contextlib.suppress(LedgerUnavailableError):
                await projector.drain(chance.choice(names))

    async def write() -> None:
        for event in events:
            await publish(store, event)

    await asyncio.gather(write(), *map(carry, projectors))
    await Projector(store).sweep()
    taken = await held(store)
    assert sorted(event.id for event in taken) == sorted(event.id for event in events)
    for name in names:
        of_one = [event.id for event in taken if event.repository == name]
        assert of_one == [event.id for event in events if event.repository == name]
    assert await outbox_lengths(store, events) == {0}


async def test_a_repeated_batch_adds_nothing_to_any_index(store: Store) -> None:
    events = list(made_up_events(50, repositories=1, start=START))
    projector = Projector(store)
    await publish(store, *events)
    batch = await projector._read(events[0].repository)
    assert await projector._project(events[0].repository, batch) == 50
    before = {key: await store.client.dump(key) async for key in store.client.scan_iter("*{audit}*")}
    assert await projector._project(events[0].repository, batch[10:20]) == 0
    assert await projector._project(events[0].repository, batch) == 0
    assert {key: await store.client.dump(key) async for key in store.client.scan_iter("*{audit}*")} == before


async def test_an_outbox_whose_clock_went_back_loses_nothing(store: Store) -> None:
    events = list(made_up_events(4, repositories=1, start=START))
    outbox, projector = keys.outbox(events[0].repository), Projector(store)
    for entry_id, event in (("9000-0", events[0]), ("9000-1", events[1])):
        await store.client.xadd(outbox, {"event": json.dumps(event.to_dict())}, id=entry_id)
    await projector.drain(events[0].repository)
    await store.client.delete(outbox)
    for entry_id, event in (("5000-0", events[1]), ("5000-1", events[2]), ("9000-1", events[3])):
        await store.client.xadd(outbox, {"event": json.dumps(event.to_dict())}, id=entry_id)
    assert await projector.drain(events[0].repository) == 2
    assert [event.id for event in await held(store)] == [event.id for event in events]


async def test_scripts_that_redis_forgot_are_sent_again(store: Store) -> None:
    events = list(made_up_events(2, repositories=1, start=START))
    for event in events:
        await publish(store, event)
        await Projector(store).drain(event.repository)
        await store.client.script_flush()
    assert await held(store) == events


async def test_what_is_no_event_is_set_aside_and_holds_nothing_up(store: Store) -> None:
    failures: list[Exception] = []
    (event,) = made_up_events(1, start=START)
    await store.client.xadd(keys.outbox(event.repository), {"event": b"\xff{"})
    await store.client.xadd(keys.outbox(event.repository), {"other": "x"})
    await publish(store, event)
    assert await Projector(store, on_failure=failures.append).drain(event.repository) == 1
    assert await held(store) == [event]
    assert await store.client.xlen(entries.UNREADABLE) == 2
    assert len(failures) == 2


async def test_a_notified_event_is_there_at_once(store: Store) -> None:
    events = list(made_up_events(3, start=START))
    projector = Projector(store, sweep_seconds=3_600)
    async with running(projector):
        for number, event in enumerate(events, 1):
            await publish(store, event)
            projector.notify(event.repository)
            await until(partial(arrived, store, number), seconds=1)
    assert projector.waiting == 0


async def test_the_sweep_finds_what_a_dead_replica_left(store: Store) -> None:
    events = list(made_up_events(40, start=START))
    await publish(store, *events)
    async with running(Projector(store, sweep_seconds=0.01)):
        await until(partial(arrived, store, 40))


async def test_redis_being_away_is_waited_out(redis_server: RedisServer) -> None:
    failures: list[Exception] = []
    (event,) = made_up_events(1, start=START)
    async with connect(redis_server.url, timeout=0.5) as store:
        await publish(store, event)
        redis_server.stop()
        projector = Projector(store, retry_seconds=0.01, sweep_seconds=0.01, on_failure=failures.append)
        async with running(projector):
            projector.notify(event.repository)
            await until(partial(failed_and_kept, failures, projector))
            redis_server.start()
            await until(partial(arrived, store, 1))


async def failed_and_kept(failures: list[Exception], projector: Projector) -> bool:
    return bool(failures) and projector.waiting == 1


async def test_an_event_of_the_future_does_not_stop_the_clock(store: Store) -> None:
    (event,) = made_up_events(1, start=START)
    await Audit(store).append(replace(event, id="future", time=2**45))
    await Audit(store).append(replace(event, id="now", time=START))
    newest: Any = await store.client.xrevrange(entries.EVENTS, count=1)
    seconds, _ = await store.client.time()
    assert int(newest[0][0].split(b"-")[0]) <= (seconds + 1) * 1_000


async def test_a_sequence_that_is_full_goes_on_in_the_next_millisecond(store: Store) -> None:
    (event,) = made_up_events(1, start=START)
    await store.client.xadd(entries.EVENTS, {"id": "x"}, id=f"{START}-65534")
    for name in ("a", "b", "c"):
        await Audit(store).append(replace(event, id=name, time=START))
    stream: Any = await store.client.xrange(entries.EVENTS)
    ids = [entry_id.decode() for entry_id, _ in stream]
    assert ids[1:] == [f"{START}-65535", f"{START + 1}-0", f"{START + 1}-1"]


async def test_an_event_without_a_repository_is_recorded_once(store: Store) -> None:
    audit = Audit(store)
    event = Event(
        id="login-1", action=next(made_up_events(1)).action, outcome=next(made_up_events(1)).outcome, time=START
    )
    assert await audit.append(event)
    assert not await audit.append(event)
    assert await audit.event("login-1") == event
    assert (await audit.repositories()).repositories == ()


class WatchedStore(Store):
    """Notes the keys of every script."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.client)
        self.seen: dict[str, list[list[str]]] = {}

    async def script(self, name: str, keys: Sequence[str], args: Sequence[Argument] = ()) -> Any:
        self.seen.setdefault(name, []).append(list(keys))
        return await super().script(name, keys, args)


async def test_all_keys_of_a_script_live_in_one_slot(store: Store) -> None:
    watched = WatchedStore(store)
    events = list(made_up_events(200, repositories=9, start=START))
    await publish(store, *events, replace(events[0], id="odd", tag="{x}", actor="}{", rule="{}"))
    await Projector(watched).sweep()
    audit = Audit(watched)
    await audit.events(parse("repo:team-*/** outcome:refused -action:adopt digest:ab until:1d", START))
    await audit.counts(START, START + 10**9, 5)
    await audit.top("tag", since=START, until=START + 10**10, outcome="refused")
    async for _ in audit.prune(START + 10**9):
        pass
    names = "project", "confirm", "emptied", "walk", "ranks", "top", "prune", "uncount", "forget", "trim"
    assert set(watched.seen) == {f"audit_{name}" for name in names}
    for name, calls in watched.seen.items():
        for call in calls:
            assert len({key_slot(key.encode()) for key in call}) == 1, name


async def test_no_script_touches_a_key_that_it_was_not_given(store: Store) -> None:
    events = list(made_up_events(100, repositories=9, start=START))
    await publish(store, *events)
    watched = WatchedStore(store)
    await Projector(watched).sweep()
    declared = {key.encode() for calls in watched.seen.values() for call in calls for key in call}
    written = {key async for key in store.client.scan_iter("*{audit}*")}
    assert written <= declared


async def test_an_outbox_that_was_emptied_gives_no_id_out_again(store: Store) -> None:
    """In the same millisecond: a projector that has read the first event deletes it by id later than another did."""
    outbox, (text, _) = keys.outbox("team/app"), _SCRIPTS["record"]
    async with store.client.pipeline(transaction=True) as pipeline:
        for number in range(20):
            pipeline.eval(text, 1, outbox, json.dumps({"id": f"event-{number}"}))
            pipeline.xrange(outbox)
            pipeline.delete(outbox)
        rows = (await pipeline.execute())[1::3]
    ids = [event_id for ((event_id, _),) in rows]
    assert len(set(ids)) == len(ids)
