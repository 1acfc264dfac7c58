"""The clock of Redis is set back, or leaps ahead, in the middle of something (H112, H113)."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot
from structlog.testing import capture_logs

from immuproxy.allow.exceptions import Allows
from immuproxy.audit import Visitor
from immuproxy.audit.record import Projector
from immuproxy.audit.search import Search
from immuproxy.drift.sweep import Sweep
from immuproxy.ledger import keys
from immuproxy.ledger.content import Content
from immuproxy.ledger.ids import new_event_id
from immuproxy.ledger.model import Outcome, State
from immuproxy.ledger.proxies import Proxies
from immuproxy.ledger.safety import Safety
from immuproxy.service.assembly import Choices
from immuproxy.service.health import Health
from immuproxy.store.rate_limits import Budget, Budgets
from tests.attack.broken import Clock, bundled_server, clock, needs_faketime, under
from tests.drift.test_sweep import sweep_with
from tests.edge.test_clocks_and_heads import leave
from tests.edge.test_exceptions import GRANT
from tests.store.test_redis_forms import leaving_connections
from tests.support.between import Request, between
from tests.support.clusters import cluster_url, started_cluster
from tests.support.conversation import Answer, RunningEdge, edge_over, image, sha256
from tests.support.servers import RedisServer, RegistryServer, make_redis, running

REPOSITORY = "team/app"
FRESH = "rules: [{name: fresh, policy: immutable, overwrite: [{within: 1h}]}]"
REMOVABLE = "rules: [{name: removable, policy: immutable, delete: allow}]"
SOON = Choices(manifest_timeout=0.5)
"""A lease of three seconds, a quarantine of five."""


@pytest.fixture
def watch(tmp_path: Any) -> Iterator[Clock]:
    needs_faketime()
    with clock(tmp_path / "clock") as made:
        yield made


@pytest.fixture
def ledger(watch: Clock) -> Iterator[RedisServer]:
    with running(lambda where: under(make_redis(where, binary=bundled_server()), watch), None) as server:
        yield server


@pytest.fixture
async def edge(registry: RegistryServer, ledger: RedisServer) -> AsyncIterator[RunningEdge]:
    async with edge_over(registry.url, ledger.url, choices=SOON) as run:
        yield run


def sweep_of(edge: RunningEdge) -> Sweep:
    """One with the limits of the edge itself."""
    return sweep_with(edge, edge.parts.limits)


async def swept(edge: RunningEdge, key: str, counted: str) -> None:
    """Sweep until nothing is left there, as every proxy does."""
    sweep, until = sweep_of(edge), time.monotonic() + 12
    client: Any = edge.store.client
    while await edge.store.do(client.execute_command(counted, key)):
        assert time.monotonic() < until
        await sweep.finish()
        await asyncio.sleep(0.2)


class Door:
    """Holds some requests back until it is opened; `waiting` is set when one has come, `passed` when one went on."""

    def __init__(self, is_held: Callable[[Request], bool]) -> None:
        self._is_held = is_held
        self.waiting, self.opened, self.passed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def act(self, request: Request) -> Answer:
        if self.opened.is_set() or not self._is_held(request):
            return await request.forward()
        self.waiting.set()
        await self.opened.wait()
        answer = await request.forward()
        self.passed.set()
        return answer


@asynccontextmanager
async def behind(door: Door, registry: RegistryServer, ledger: RedisServer, rules: str) -> AsyncIterator[RunningEdge]:
    async with (
        between(registry.url, door.act) as upstream,
        edge_over(upstream.url, ledger.url, rules=rules, choices=SOON) as run,
    ):
        try:
            yield run
        finally:
            door.opened.set()


@asynccontextmanager
async def two_proxies(
    door: Door, registry: RegistryServer, ledger: RedisServer
) -> AsyncIterator[tuple[RunningEdge, RunningEdge]]:
    """The owner of a tag, behind the door, and another that has watched the clock before anything happens."""
    async with (
        behind(door, registry, ledger, "default: immutable") as edge,
        edge_over(registry.url, ledger.url, choices=SOON) as other,
    ):
        await other.parts.epoch.clock.look()
        yield edge, other


# --- whose turn it is (H112)


async def took(edge: RunningEdge, tag: str, seed: str, *, longest: float) -> float:
    """Seconds until a push of `seed` got 201, as a client that tries again would find out."""
    began = time.monotonic()
    pushed = image(seed)
    await edge.client.blobs(REPOSITORY, pushed)
    while (answer := await edge.client.put(REPOSITORY, tag, pushed)).status != 201:
        assert answer.status == 503, answer.body
        assert time.monotonic() - began < longest, answer.body
        await asyncio.sleep(0.2)
    return time.monotonic() - began


@pytest.mark.parametrize(("state", "seed"), [(State.CLAIMED, "other"), (State.ARMED, "ours"), (State.ARMED, "other")])
async def test_h112_a_lost_owner_holds_its_tag_no_longer_when_time_goes_back(
    edge: RunningEdge, watch: Clock, state: State, seed: str
) -> None:
    await leave(edge, image("ours"), state, lease_ms=1500)
    watch.jump("-1h")
    assert await took(edge, "1.0", seed, longest=12) < 12


async def test_h112_neither_when_all_proxies_start_anew_meanwhile(
    registry: RegistryServer, ledger: RedisServer, watch: Clock
) -> None:
    async with edge_over(registry.url, ledger.url, choices=SOON) as edge:
        await leave(edge, image("ours"), State.ARMED, lease_ms=1500)
    watch.jump("-1h")
    async with edge_over(registry.url, ledger.url, choices=SOON) as edge:
        assert await took(edge, "1.0", "ours", longest=8) < 8


async def test_h112_the_sweep_finishes_what_is_dated_an_hour_from_now(edge: RunningEdge, watch: Clock) -> None:
    await leave(edge, image("ours"), State.ARMED, lease_ms=100)
    watch.jump("-1h")
    await swept(edge, keys.intents(REPOSITORY), "hlen")
    assert [event.outcome for event in await edge.events(REPOSITORY)] == [Outcome.FAILED]


async def test_h112_the_sweep_gives_back_what_was_only_claimed(edge: RunningEdge, watch: Clock) -> None:
    await leave(edge, image("ours"), State.CLAIMED, lease_ms=500)
    watch.jump("-1h")
    await swept(edge, keys.claims(REPOSITORY), "zcard")
    assert (await edge.parts.register.read(REPOSITORY, "1.0")).claim is None


@pytest.mark.parametrize("jump", ["+15s", "+1h"])
async def test_h112_a_living_owner_keeps_its_tag_when_time_leaps_ahead(
    registry: RegistryServer, ledger: RedisServer, watch: Clock, jump: str
) -> None:
    door = Door(lambda request: request.is_manifest_put)
    ours, theirs = image("ours"), image("theirs")
    async with two_proxies(door, registry, ledger) as (edge, other):
        await edge.client.blobs(REPOSITORY, ours)
        await edge.client.blobs(REPOSITORY, theirs)
        pushing = asyncio.create_task(edge.client.put(REPOSITORY, "1.0", ours))
        await door.waiting.wait()
        watch.jump(jump)
        rival = asyncio.create_task(other.client.put(REPOSITORY, "1.0", theirs))
        await asyncio.sleep(0.3)  # time enough to take what is not guarded
        assert not rival.done()
        await sweep_of(other).finish()
        door.opened.set()
        assert (await pushing).status == 201
        assert (await rival).status == 409
        assert (await other.client.pull(REPOSITORY, "1.0")).digest == ours.digest
        told = [event.outcome for event in await edge.events(REPOSITORY)]
        assert told == [Outcome.CREATED, Outcome.REFUSED]


async def test_h112_two_are_never_told_201_whenever_the_late_push_lands(
    registry: RegistryServer, ledger: RedisServer, watch: Clock
) -> None:
    """Also where the owner has given up, its push lands last, and Redis says that an hour has passed."""
    door = Door(lambda request: request.is_manifest_put)
    ours, theirs = image("ours"), image("theirs")
    async with two_proxies(door, registry, ledger) as (edge, other):
        await edge.client.blobs(REPOSITORY, ours)
        pushing = asyncio.create_task(edge.client.put(REPOSITORY, "1.0", ours))
        await door.waiting.wait()
        watch.jump("+1h")
        assert await took(other, "1.0", "theirs", longest=12) > 2.0, "not before the quarantine has passed"
        first = await pushing
        door.opened.set()
        await door.passed.wait()
        assert first.status in {409, 503, 201}
        held = (await other.client.pull(REPOSITORY, "1.0")).digest
        assert held == (ours if first.status == 201 else theirs).digest


async def test_h112_a_mark_outlasts_its_delete_when_time_leaps_ahead(
    registry: RegistryServer, ledger: RedisServer, watch: Clock
) -> None:
    """Else a push would come to need what is just about to go."""
    pushed = image("one")
    layer = sha256(pushed.blobs[1])
    door = Door(lambda request: request.method == "DELETE" and request.target.endswith(layer))
    async with behind(door, registry, ledger, REMOVABLE) as edge:
        await edge.parts.epoch.clock.look()
        await edge.client.blobs(REPOSITORY, pushed)
        await edge.client.push(REPOSITORY, "other", image("another"))
        deleting = asyncio.create_task(edge.client.ask("DELETE", f"/v2/{REPOSITORY}/blobs/{layer}"))
        await door.waiting.wait()
        watch.jump("+1h")
        await sweep_of(edge).finish()
        assert (await deleting).status in {502, 503, 504}
        await sweep_of(edge).finish()
        answer = await edge.client.put(REPOSITORY, "1.0", pushed)
        door.opened.set()
        await door.passed.wait()
        assert answer.status == 503, "the delete could still land"
        await swept(edge, keys.marks(REPOSITORY), "zcard")
        assert (await edge.client.push(REPOSITORY, "1.0", pushed)).status == 201


async def test_h118_a_late_write_stays_one_when_time_leaps_ahead(
    registry: RegistryServer, ledger: RedisServer, watch: Clock
) -> None:
    """It may be on its way for as long as before, whatever Redis says."""
    ours, rules = image("ours"), "rules: [{name: again, policy: immutable, delete: allow, reuse: allow}]"
    async with edge_over(registry.url, ledger.url, rules=rules, choices=SOON) as edge:
        await edge.parts.epoch.clock.look()
        assert (await edge.client.push(REPOSITORY, "1.0", ours)).status == 201
        gone = await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{ours.digest}")
        assert gone.status == 202
        watch.jump("+1h")
        await sweep_of(edge).late()
        await edge.direct.put(REPOSITORY, "1.0", ours)
        assert (await edge.client.pull(REPOSITORY, "1.0")).status == 404


async def test_h112_a_jump_is_said_once_counted_and_shown(edge: RunningEdge, watch: Clock) -> None:
    clocks, look = edge.parts.epoch.clock, edge.parts.epoch.clock.look
    safety = Safety(edge.store, strict=False)
    await safety.look()
    health = Health(safety, clocks, edge.parts.edge._upstream, edge.metrics)

    async def count(direction: str) -> float | None:
        read, labels = edge.metrics.registry.get_sample_value, {"direction": direction}
        return await asyncio.to_thread(read, "immuproxy_redis_clock_jumps_total", labels)

    with capture_logs() as logs:
        await look()
        assert ";" not in (await health.parts())[0].detail
        watch.jump("-1h")
        for _ in range(3):
            await look()
        assert "its clock went back by 3600 s" in (await health.parts())[0].detail
        watch.jump("-3585")
        for _ in range(3):
            await look()
        assert "its clock leapt ahead by 15 s" in (await health.parts())[0].detail
    said = [entry for entry in logs if entry["event"].startswith("the clock of Redis jumped")]
    assert [round(entry["seconds"]) for entry in said] == [-3600, 15]
    assert (await count("back"), await count("ahead")) == (1, 1)


# --- how long something was allowed (H113)


async def test_h113_a_time_limit_that_has_passed_stays_passed(
    registry: RegistryServer, ledger: RedisServer, watch: Clock
) -> None:
    async with edge_over(registry.url, ledger.url, rules=FRESH) as edge:
        assert (await edge.client.push(REPOSITORY, "1.0", image("one"))).status == 201
        watch.jump("+90m")
        assert (await edge.client.push(REPOSITORY, "1.0", image("two"))).status == 409
        watch.jump("+30m")
        assert (await edge.client.push(REPOSITORY, "1.0", image("two"))).status == 409
        assert (await edge.client.push(REPOSITORY, "2.0", image("one"))).status == 201
        assert (await edge.client.push(REPOSITORY, "2.0", image("two"))).status == 201, "a new tag has its own hour"
    async with edge_over(registry.url, ledger.url, rules=FRESH) as edge:
        assert (await edge.client.push(REPOSITORY, "1.0", image("two"))).status == 409, "also after a restart"


async def test_h113_time_that_went_back_while_no_proxy_ran_is_noticed(
    registry: RegistryServer, ledger: RedisServer, watch: Clock
) -> None:
    async with edge_over(registry.url, ledger.url, rules=FRESH) as edge:
        assert (await edge.client.push(REPOSITORY, "1.0", image("one"))).status == 201
        watch.jump("+90m")
        await edge.parts.epoch.clock.look()
    watch.jump("+30m")
    async with edge_over(registry.url, ledger.url, rules=FRESH) as edge:
        assert (await edge.client.push(REPOSITORY, "1.0", image("two"))).status == 409


async def test_h113_an_exception_that_is_over_stays_over(edge: RunningEdge, watch: Clock) -> None:
    assert (await edge.client.push(REPOSITORY, "1.0", image("one"))).status == 201
    await edge.parts.exceptions.grant(replace(GRANT, id=new_event_id()), lasts_ms=3_600_000)
    watch.jump("+90m")
    assert (await edge.client.push(REPOSITORY, "1.0", image("two"))).status == 409
    watch.jump("+30m")
    assert (await edge.client.push(REPOSITORY, "1.0", image("two"))).status == 409
    await sweep_of(edge).finish()
    assert await edge.parts.exceptions.of(REPOSITORY, "1.0") is None


async def test_h113_an_exception_for_a_delete_that_is_over_stays_over(edge: RunningEdge, watch: Clock) -> None:
    pushed = image("one")
    assert (await edge.client.push(REPOSITORY, "1.0", pushed)).status == 201
    granted = replace(GRANT, id=new_event_id())
    await edge.parts.exceptions.grant(granted, lasts_ms=3_600_000, allows=Allows.DELETE)
    target = f"/v2/{REPOSITORY}/manifests/{pushed.digest}"
    for jump in ("+90m", "+30m"):
        watch.jump(jump)
        assert (await edge.client.ask("DELETE", target)).status == 405, jump


async def test_h113_an_exception_lasts_as_long_as_it_says_after_time_went_back(edge: RunningEdge, watch: Clock) -> None:
    """Granted and used while the ledger's own time is ahead of the clock."""
    assert (await edge.client.push(REPOSITORY, "1.0", image("one"))).status == 201
    watch.jump("-1h")
    await edge.parts.exceptions.grant(replace(GRANT, id=new_event_id()), lasts_ms=600_000)
    assert (await edge.client.push(REPOSITORY, "1.0", image("two"))).status == 201
    watch.jump("-49m")
    assert (await edge.client.push(REPOSITORY, "1.0", image("three"))).status == 409


async def test_h113_the_audit_keeps_its_order_when_time_goes_back(edge: RunningEdge, watch: Clock) -> None:
    projector = Projector(edge.store)
    for number, jump in enumerate(("+0", "-1h", "-2h", "+1h", "-1h")):
        watch.jump(jump)
        assert (await edge.client.push(REPOSITORY, f"1.{number}", image("one"))).status == 201
        await projector.sweep()
        await projector.sweep()
    found = [event.tag async for event in Visitor(edge.store, None).export(Search())]
    assert found == ["1.4", "1.3", "1.2", "1.1", "1.0"]


# --- what else goes by it


async def test_h112_log_ins_are_not_kept_waiting_for_an_hour(edge: RunningEdge, watch: Clock) -> None:
    taking, budget = Budgets(edge.store), Budget("a", 2, 60_000)
    assert [await taking.take([budget]) for _ in range(2)] == [0, 0]
    watch.jump("-1h")
    assert await taking.take([budget]) <= 60_000


async def test_h112_a_proxy_that_has_gone_is_forgotten_when_time_went_back(edge: RunningEdge, watch: Clock) -> None:
    await Proxies(edge.store).announce("sha256:gone")
    before = await edge.store.now_ms()
    watch.jump("-1h")
    while await edge.store.now_ms() > before - 3_000_000:  # Redis reads the time once in a while only
        await asyncio.sleep(0.01)
    assert await Proxies(edge.store).announce("sha256:here") == {"sha256:here"}


# --- a cluster, on which each master has a clock of its own


@pytest.fixture
def clocks(tmp_path: Any) -> Iterator[list[Clock]]:
    needs_faketime()
    with clock(tmp_path / "first") as first, clock(tmp_path / "second") as second:
        yield [first, second]


@pytest.fixture
def masters(clocks: list[Clock]) -> Iterator[list[RedisServer]]:
    remaining = iter(clocks)
    with ExitStack() as stack:

        def start(**options: Any) -> RedisServer:
            watch = next(remaining)

            def make(where: Path) -> RedisServer:
                return under(make_redis(where, **(options | {"binary": bundled_server()})), watch)

            return stack.enter_context(running(make, None))

        yield started_cluster(start, masters=2)
        gc.collect()


@leaving_connections
async def test_h112_on_a_cluster_the_clock_of_each_master_counts_for_what_it_holds(
    registry: RegistryServer, masters: list[RedisServer], clocks: list[Clock]
) -> None:
    ours = clocks[key_slot(REPOSITORY.encode()) // (16384 // 2 + 1)]
    async with edge_over(registry.url, cluster_url(masters), choices=SOON) as edge:
        await leave(edge, image("ours"), State.ARMED, lease_ms=3000)
        ours.jump("+1h")
        began = time.monotonic()
        assert await took(edge, "1.0", "ours", longest=8) > 2.0, "its owner may be at work"
        await leave_another(edge, "2.0", lease_ms=1000)
        ours.jump("+0")
        assert await took(edge, "2.0", "other", longest=8) < 8
        assert time.monotonic() - began < 16


async def leave_another(edge: RunningEdge, tag: str, *, lease_ms: int) -> None:
    content = Content(digest=image("lost").digest, needs=frozenset({image("lost").digest}))
    await edge.parts.register.claim(REPOSITORY, tag, content, token="theirs", lease_ms=lease_ms)
