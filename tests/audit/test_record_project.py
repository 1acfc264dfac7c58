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
from redis.crc import key_slot
from redis.exceptions import ResponseError

from immuproxy.audit.pruning import prune
from immuproxy.audit.record import Projector, Record
from immuproxy.audit.record import keys as record_keys
from immuproxy.ledger import keys
from immuproxy.ledger.model import Event
from immuproxy.store import cancelling
from immuproxy.store.redis import Argument, LedgerUnavailableError, Store, connect
from immuproxy.store.scripts import SCRIPTS
from tests.audit.made_up import made_up_events
from tests.audit.recording import publish, publish_as_older, recorded, waiting, watermark
from tests.support.servers import RedisServer

START = 1_700_000_000_000


@pytest_asyncio.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    async with connect(redis_server.url, timeout=5) as opened:
        yield opened


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.005)


async def arrived(store: Store, count: int) -> bool:
    with contextlib.suppress(LedgerUnavailableError):
        return bool(await store.do(store.client.xlen(record_keys.EVENTS)) >= count)
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
    assert await recorded(store) == events
    assert await waiting(store, events) == 0


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
    assert await recorded(store) == [event]


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
    taken = await recorded(store)
    assert sorted(event.id for event in taken) == sorted(event.id for event in events)
    for name in names:
        of_one = [event.id for event in taken if event.repository == name]
        assert of_one == [event.id for event in events if event.repository == name]
    assert await waiting(store, events) == 0


async def test_scripts_that_redis_forgot_are_sent_again(store: Store) -> None:
    events = list(made_up_events(2, repositories=1, start=START))
    for event in events:
        await publish(store, event)
        await Projector(store).drain(event.repository)
        await store.client.script_flush()
    assert await recorded(store) == events


async def test_what_is_no_event_is_set_aside_and_holds_nothing_up(store: Store) -> None:
    failures: list[Exception] = []
    (event,) = made_up_events(1, start=START)
    await store.client.xadd(keys.outbox(event.repository), {"event": b"\xff{"})
    await store.client.xadd(keys.outbox(event.repository), {"other": "x"})
    await publish(store, event)
    assert await Projector(store, on_failure=failures.append).drain(event.repository) == 1
    assert await recorded(store) == [event]
    assert await store.client.xlen(record_keys.UNREADABLE) == 2
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
    await Record(store).append(replace(event, id="future", time=2**45))
    await Record(store).append(replace(event, id="now", time=START))
    newest: Any = await store.client.xrevrange(record_keys.EVENTS, count=1)
    seconds, _ = await store.client.time()
    assert int(newest[0][0].split(b"-")[0]) <= (seconds + 1) * 1_000


async def test_a_sequence_that_is_full_goes_on_in_the_next_millisecond(store: Store) -> None:
    (event,) = made_up_events(1, start=START)
    await store.client.xadd(record_keys.EVENTS, {"id": "x"}, id=f"{START}-65534")
    for name in ("a", "b", "c"):
        await Record(store).append(replace(event, id=name, time=START))
    stream: Any = await store.client.xrange(record_keys.EVENTS)
    ids = [entry_id.decode() for entry_id, _ in stream]
    assert ids[1:] == [f"{START}-65535", f"{START + 1}-0", f"{START + 1}-1"]


async def test_an_event_without_a_repository_is_recorded_once(store: Store) -> None:
    record, like = Record(store), next(made_up_events(1))
    event = Event(id="login-1", action=like.action, outcome=like.outcome, time=START)
    assert await record.append(event)
    assert not await record.append(event)
    assert await recorded(store) == [event]


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
    await Record(watched).append(replace(events[0], id="of-none", repository=""))
    async for _ in prune(watched, START + 10**9):
        pass
    assert set(watched.seen) == {f"record_{name}" for name in ("take", "confirm", "emptied", "trim")}
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
    outbox, text = keys.outbox("team/app"), SCRIPTS["record"].text
    async with store.client.pipeline(transaction=True) as pipeline:
        for number in range(20):
            pipeline.eval(text, 1, outbox, json.dumps({"id": f"event-{number}"}))
            pipeline.xrange(outbox)
            pipeline.delete(outbox)
        rows = (await pipeline.execute())[1::3]
    ids = [event_id for ((event_id, _),) in rows]
    assert len(set(ids)) == len(ids)


# --- attacks on the watermark


def of_one(count: int, first: int = 0) -> list[Event]:
    """Events of one repository."""
    return list(made_up_events(count, repositories=1, start=START, first=first))


class Stopped(Store):
    """Stands still before it runs its next script, as a process that was stopped, until it is let go."""

    def __init__(self, store: Store, before: str = "record_take") -> None:
        super().__init__(store.client)
        self._before = before
        self.stands, self.may_go = asyncio.Event(), asyncio.Event()

    async def script(self, name: str, keys: Sequence[str], args: Sequence[Argument] = ()) -> Any:
        if name == self._before:
            self.stands.set()
            await self.may_go.wait()
        return await super().script(name, keys, args)


@pytest.mark.parametrize("lives", [0, 1, 5])
async def test_h128_who_was_stopped_between_reading_and_taking_takes_nothing_again(store: Store, lives: int) -> None:
    """Others have taken it meanwhile, and ``lives`` more lives of the outbox."""
    events = of_one(4 + 2 * lives)
    name, stopped = events[0].repository, Stopped(store)
    await publish(store, *events[:2])
    async with asyncio.TaskGroup() as tasks:
        late = tasks.create_task(Projector(stopped).drain(name))
        await stopped.stands.wait()
        for life in range(lives + 1):
            if life:
                await publish(store, *events[2 * life : 2 * life + 2])
            await Projector(store).drain(name)
            assert await waiting(store, events) == 0
        await publish(store, *events[-2:])
        stopped.may_go.set()
        assert await late == 2
    assert await recorded(store) == events
    assert await waiting(store, events) == 0


async def test_h128_ten_at_once_take_each_event_once(store: Store) -> None:
    events = of_one(250)
    projectors = [Projector(Store(store.client)) for _ in range(10)]
    for part in range(0, 250, 50):
        await publish(store, *events[part : part + 50])
        counted = await asyncio.gather(*(each.drain(events[0].repository) for each in projectors))
        assert sum(counted) == 50
    assert await recorded(store) == events
    assert await waiting(store, events) == 0


@pytest.mark.parametrize("count", [99, 100, 101, 200])
async def test_h128_a_batch_that_is_just_full_is_the_end_or_not(store: Store, count: int) -> None:
    events = of_one(count + 1)
    projector = Projector(store)
    await publish(store, *events[:count])
    assert await projector.drain(events[0].repository) == count
    await publish(store, events[count])
    assert await projector.drain(events[0].repository) == 1
    assert await recorded(store) == events
    assert await waiting(store, events) == 0


async def test_h128_a_remembered_watermark_that_redis_no_longer_has_is_forgotten(store: Store) -> None:
    """The record went back after it was read: without anything new in the outbox, it is taken once more."""
    events = of_one(3)
    name, stopped = events[0].repository, Stopped(store, before="record_confirm")
    await publish(store, *events)
    projector = Projector(stopped)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(projector.drain(name))
        await stopped.stands.wait()
        await store.do(store.client.delete(record_keys.WATERMARK, record_keys.EVENTS))
        stopped.may_go.set()
        assert await first == 3
    assert await waiting(store, events) == 3
    assert await projector.drain(name) == 3
    assert await recorded(store) == events
    assert await waiting(store, events) == 0


async def test_h128_who_was_stopped_before_deleting_deletes_nothing_of_another_life(store: Store) -> None:
    """Time went back, so an id of an earlier life is given out again."""
    events = of_one(4)
    name, stopped = events[0].repository, Stopped(store, before="record_emptied")
    await publish(store, *events[:2])
    (_, (again, _)) = await store.do(store.client.xrange(keys.outbox(name)))
    async with asyncio.TaskGroup() as tasks:
        late = tasks.create_task(Projector(stopped).drain(name))
        await stopped.stands.wait()
        await Projector(store).drain(name)
        await begin_anew(store, events[2], first_id="5-5", following=(events[3], again.decode()))
        stopped.may_go.set()
        await late
    assert await Projector(store).drain(name) == 2
    assert await recorded(store) == events
    assert await waiting(store, events) == 0


async def begin_anew(
    store: Store, first: Event, *, first_id: str, following: tuple[Event, str], life: str = "abcdef012345"
) -> None:
    """A life of an outbox at times of the test's choosing."""
    for event, outbox_id in ((first, first_id), following):
        fields: dict[Any, Any] = {"event": json.dumps(event.to_dict()), "life": life}
        await store.do(store.client.xadd(keys.outbox(event.repository), fields, id=outbox_id))


async def test_h128_time_that_went_back_between_two_lives_loses_and_repeats_nothing(store: Store) -> None:
    events = of_one(5)
    name, projector, other = events[0].repository, Projector(store), Projector(store)
    await publish(store, events[0])
    assert await projector.drain(name) == 1
    await begin_anew(store, events[1], first_id="9000-7", following=(events[2], "9001-0"))
    assert (await projector.drain(name), await other.drain(name)) == (2, 0)
    await begin_anew(store, events[3], first_id="5000-7", following=(events[4], "9001-0"), life="012345abcdef")
    assert (await projector.drain(name), await other.drain(name)) == (2, 0)
    assert await recorded(store) == events


async def test_h128_an_outbox_begun_anew_between_watermark_and_reading_is_taken_once(store: Store) -> None:
    """What stands in it is of another life than the remembered watermark, whatever the ids."""
    events = of_one(4)
    name, first, second = events[0].repository, Projector(store), Projector(store)
    for event in events:
        await publish(store, event)
        assert await first.drain(name) + await second.drain(name) == 1
        assert await waiting(store, events) == 0
        first, second = second, first
    assert await recorded(store) == events


async def test_h128_nothing_but_unreadable_entries_is_set_aside_once(store: Store) -> None:
    (event,) = of_one(1)
    name, client = event.repository, store.client
    for number in range(100):
        await client.xadd(keys.outbox(name), {"event": f"{number}", "life": "abc"})
    stopped = Stopped(store, before="record_emptied")
    before = asyncio.create_task(Projector(stopped).drain(name))
    await stopped.stands.wait()
    await cancelling.end({before})
    assert await client.xlen(record_keys.UNREADABLE) == 100
    assert (await watermark(store, name)).startswith("abc ")
    projector = Projector(store)
    assert await projector.drain(name) == 0
    await publish(store, event)
    assert await projector.drain(name) == 1
    assert await client.xlen(record_keys.UNREADABLE) == 100
    assert await recorded(store) == [event]


async def test_h128_an_emptied_outbox_that_was_left_behind_is_begun_anew(store: Store) -> None:
    """Redis keeps a stream without entries, and its last id, which may be of a time to come."""
    first, second = of_one(2)
    outbox = keys.outbox(first.repository)
    await store.client.xadd(outbox, {"event": "x"}, id=f"{2**45}-0")
    await store.client.xtrim(outbox, maxlen=0)
    await publish(store, first)
    await Projector(store).drain(first.repository)
    await publish(store, second)
    await Projector(store).drain(first.repository)
    assert await recorded(store) == [first, second]


# --- beside an older release, which gave outboxes no life


async def test_h126_what_an_older_release_left_is_taken_once(store: Store) -> None:
    """Its watermark is an id alone; what it had taken and not deleted yet is there, and something that is new."""
    events = of_one(4)
    name = events[0].repository
    for number, event in enumerate(events[:3], 1):
        await publish_as_older(store, event, f"{number}000-0")
    await store.do(store.client.hset(record_keys.OLD_WATERMARK, name, "2000-0"))
    for event in events[:2]:
        await Record(store).append(event)
    projector = Projector(store)
    assert await projector.drain(name) == 1
    await publish(store, events[3])
    assert await projector.drain(name) == 1
    assert await recorded(store) == events
    assert await waiting(store, events) == 0


async def test_h126_an_older_proxy_whose_time_went_back_loses_nothing(store: Store) -> None:
    events = of_one(4)
    name = events[0].repository
    for outbox_id, event in (("9000-0", events[0]), ("9000-1", events[1])):
        await publish_as_older(store, event, outbox_id)
    await Projector(store).drain(name)
    for outbox_id, event in (("5000-0", events[1]), ("5000-1", events[2]), ("9000-1", events[3])):
        await publish_as_older(store, event, outbox_id)
    assert await Projector(store).drain(name) == 2
    assert await recorded(store) == events
    assert await waiting(store, events) == 0


async def test_h126_older_and_newer_proxies_write_into_one_outbox(store: Store) -> None:
    """What has no life is of that of what stands before it, also where others deleted that already."""
    events = of_one(6)
    name, projector = events[0].repository, Projector(store)
    await publish(store, events[0])
    await publish_as_older(store, events[1])
    stopped = Stopped(store, before="record_emptied")
    async with asyncio.TaskGroup() as tasks:
        late = tasks.create_task(Projector(stopped).drain(name))
        await stopped.stands.wait()
        ((first, _), _) = await store.do(store.client.xrange(keys.outbox(name)))
        await store.do(store.client.xdel(keys.outbox(name), first))
        assert await projector.drain(name) == 0
        stopped.may_go.set()
        assert await late == 2
    await publish_as_older(store, events[2])
    await publish(store, events[3])
    assert await projector.drain(name) == 2
    await publish(store, events[4])
    await publish_as_older(store, events[5])
    assert await Projector(store).drain(name) == 2
    assert await recorded(store) == events
    assert await waiting(store, events) == 0


async def test_h126_an_older_projector_is_kept_from_taking_anything_twice(store: Store) -> None:
    """It would not find in its own index what a newer one has taken.  It stops at its first question."""
    events = of_one(3)
    name = events[0].repository
    await publish_as_older(store, events[0], "1000-0")
    await store.do(store.client.hset(record_keys.OLD_WATERMARK, name, "1000-0"))
    await Record(store).append(events[0])
    await publish_as_older(store, events[1], "2000-0")
    await Projector(store).drain(name)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await store.client.eval("return redis.call('HGET', KEYS[1], ARGV[1])", 1, record_keys.OLD_WATERMARK, name)
    await publish_as_older(store, events[2], "3000-0")
    await Projector(store).drain(name)
    assert await recorded(store) == events


async def test_h126_an_event_of_no_outbox_that_is_sent_again_is_found_where_time_went_back(store: Store) -> None:
    """It stands far behind its own time then, above a thousand others."""
    (event,) = of_one(1)
    client: Any = store.client
    async with client.pipeline(transaction=False) as pipeline:
        for number in range(1_500):
            pipeline.xadd(record_keys.EVENTS, {"event": f"{number}\x1f"}, id=f"{2**45}-{number}")
        await pipeline.execute()
    seconds, _ = await client.time()
    sent = replace(event, time=seconds * 1000)
    assert await Record(store).append(sent)
    assert not await Record(store).append(sent)


async def test_h126_all_watermarks_of_an_older_release_are_taken_over_at_once(store: Store) -> None:
    """They may be more than one call of Redis takes."""
    (event,) = of_one(1)
    old: dict[Any, Any] = {f"team/app-{number}": f"{number}-1" for number in range(12_345)}
    await store.do(store.client.hset(record_keys.OLD_WATERMARK, mapping=old))
    assert await Record(store).append(event)
    found = await store.do(store.client.hgetall(record_keys.WATERMARK))
    assert {name.decode(): mark.decode() for name, mark in found.items()} == old
