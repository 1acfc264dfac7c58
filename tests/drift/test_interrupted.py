"""Interrupted pushes that no claim guards are told as what is known of them, with the time of the push (H114, H115)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from immuproxy.audit.record import Projector
from immuproxy.drift.interrupted import KEPT_MS
from immuproxy.edge.answers import Answer
from immuproxy.edge.upstream import Upstream
from immuproxy.ledger import keys
from immuproxy.ledger.model import Action, Event, Outcome
from immuproxy.ledger.watch import Ages
from immuproxy.oci.errors import OciError
from tests.drift.test_sweep import AT_ONCE, kill_at_the_put, leave_armed, sweep_of
from tests.support.conversation import Image, RunningEdge, edge_over, image, index
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY, TAG = "team/app", "latest"
ONE, TWO, THREE = image("one"), image("two"), image("three")


@pytest.fixture
async def edge(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    async with edge_over(registry.url, redis_server.url) as running:
        for pushed in (ONE, TWO, THREE):
            await running.direct.blobs(REPOSITORY, pushed)
        yield running


async def interrupt(edge: RunningEdge, pushed: Image, reference: str = TAG, *, lands: bool) -> Event:
    """A push whose proxy is gone once it has sent it, or just before; its intent."""
    known = {intent.id for intent in await edge.parts.register.intents(REPOSITORY)}
    with pytest.MonkeyPatch.context() as patched:
        kill_at_the_put(patched, lands=lands)
        assert (await edge.client.put(REPOSITORY, reference, pushed)).status == 500
    (intent,) = [found for found in await edge.parts.register.intents(REPOSITORY) if found.id not in known]
    return intent


async def put(edge: RunningEdge, pushed: Image, reference: str = TAG) -> None:
    assert (await edge.client.put(REPOSITORY, reference, pushed)).status == 201


async def store_untagged(edge: RunningEdge, pushed: Image) -> None:
    assert (await edge.direct.put(REPOSITORY, pushed.digest, pushed)).status == 201


async def told(edge: RunningEdge, intent: Event) -> list[Event]:
    """What the audit has of this push, oldest first."""
    return [event for event in await edge.events(REPOSITORY) if event.request_id == intent.request_id]


async def finish(edge: RunningEdge, *, quarantine: float = 0.0) -> None:
    await asyncio.sleep(0.002)  # the clock of the ledger counts milliseconds
    await sweep_of(edge, lease=AT_ONCE, quarantine=quarantine).finish()


@pytest.mark.parametrize("carried", [False, True])
async def test_h114_a_push_that_was_overwritten_before_anybody_looked_is_told_by_that_overwrite(
    edge: RunningEdge, carried: bool
) -> None:
    """Wherever that stands: it is carried into the audit by and by."""
    await put(edge, ONE)
    intent = await interrupt(edge, TWO, lands=True)
    await put(edge, THREE)
    over = (await edge.events(REPOSITORY))[-1]
    assert over.previous_digest == TWO.digest
    if carried:
        await Projector(edge.store).sweep()
    await finish(edge, quarantine=600)
    (event,) = await told(edge, intent)
    assert (event.id, event.outcome, event.previous_digest) == (intent.id, Outcome.OVERWRITTEN, ONE.digest)
    assert over.id in event.reason
    assert await edge.parts.register.intents(REPOSITORY) == []
    moved: Any = await edge.store.client.hget(keys.moved(REPOSITORY), TAG)
    assert moved.decode() == THREE.digest, "what the tag held once is not what it holds"


@pytest.mark.parametrize("carried", [False, True])
async def test_h114_a_push_of_the_same_content_by_somebody_else_proves_nothing(
    edge: RunningEdge, carried: bool
) -> None:
    await put(edge, ONE)
    intent = await interrupt(edge, TWO, lands=False)
    await put(edge, TWO)
    if carried:
        await Projector(edge.store).sweep()
    await finish(edge, quarantine=600)
    assert await told(edge, intent) == [], "it may land yet"
    await finish(edge)
    (event,) = await told(edge, intent)
    assert (event.id, event.outcome) == (intent.id, Outcome.UNKNOWN)
    assert TWO.digest in event.reason
    await put(edge, THREE)
    await finish(edge)
    assert len(await told(edge, intent)) == 1


async def test_h114_a_push_again_that_found_its_content_proves_the_first(edge: RunningEdge) -> None:
    intent = await interrupt(edge, ONE, lands=True)
    await put(edge, ONE)
    await finish(edge, quarantine=600)
    (event,) = await told(edge, intent)
    assert event.outcome is Outcome.CREATED


async def test_h114_of_two_that_were_interrupted_with_the_same_content_neither_is_proved(edge: RunningEdge) -> None:
    first = await interrupt(edge, ONE, lands=False)
    second = await interrupt(edge, ONE, lands=True)
    await finish(edge, quarantine=600)
    assert {event.id for event in await edge.parts.register.intents(REPOSITORY)} == {first.id, second.id}


async def test_h114_what_nobody_else_pushed_and_the_tag_shows_has_arrived(edge: RunningEdge) -> None:
    await put(edge, ONE)
    intent = await interrupt(edge, TWO, lands=True)
    await finish(edge, quarantine=600)
    assert [event.outcome for event in await told(edge, intent)] == [Outcome.OVERWRITTEN]
    moved: Any = await edge.store.client.hget(keys.moved(REPOSITORY), TAG)
    assert moved.decode() == TWO.digest


async def test_h114_content_that_the_registry_does_not_have_never_arrived(edge: RunningEdge) -> None:
    intent = await interrupt(edge, ONE, lands=False)
    await finish(edge)
    assert [event.outcome for event in await told(edge, intent)] == [Outcome.FAILED]


async def test_h114_content_that_was_deleted_meanwhile_may_have_arrived(edge: RunningEdge) -> None:
    intent = await interrupt(edge, ONE, lands=True)
    assert (await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{ONE.digest}")).status == 202
    await finish(edge)
    (event,) = await told(edge, intent)
    assert event.outcome is Outcome.UNKNOWN
    assert "held nothing" in event.reason


@pytest.mark.parametrize("link_of", ["tags/*/current", "revisions/sha256/*"])
async def test_h114_what_a_killed_registry_cannot_read_is_unknown_in_the_end(
    edge: RunningEdge, registry: RegistryServer, link_of: str
) -> None:
    """The link of the tag, or of the content, is empty (H16), and stays so until somebody pushes it again."""
    intent = await interrupt(edge, ONE, lands=True)
    (link,) = registry.storage.glob(f"**/{REPOSITORY}/_manifests/{link_of}/link")
    link.write_text("")
    await finish(edge, quarantine=600)
    assert await told(edge, intent) == []
    await finish(edge)
    (event,) = await told(edge, intent)
    assert event.outcome is Outcome.UNKNOWN
    assert "the registry could not read" in event.reason


async def test_h114_content_that_is_there_by_its_digest_may_have_been_under_the_tag(edge: RunningEdge) -> None:
    await store_untagged(edge, TWO)
    await put(edge, ONE)
    intent = await interrupt(edge, TWO, lands=False)
    await finish(edge)
    (event,) = await told(edge, intent)
    assert event.outcome is Outcome.UNKNOWN
    assert f"held {ONE.digest}" in event.reason


async def test_h114_a_push_that_left_the_tag_as_it_was_is_unchanged(edge: RunningEdge) -> None:
    await put(edge, ONE)
    intent = await interrupt(edge, ONE, lands=False)
    await finish(edge)
    assert [event.outcome for event in await told(edge, intent)] == [Outcome.UNCHANGED]


@pytest.mark.parametrize("again", [False, True])
async def test_h114_a_push_by_digest_is_told_as_created_where_nobody_else_has_pushed_that(
    edge: RunningEdge, again: bool
) -> None:
    if again:
        await put(edge, ONE, ONE.digest)
    intent = await interrupt(edge, ONE, ONE.digest, lands=True)
    await finish(edge)
    assert [event.outcome for event in await told(edge, intent)] == [Outcome.UNKNOWN if again else Outcome.CREATED]


async def test_h114_what_is_proved_later_is_told_later(edge: RunningEdge) -> None:
    """It lands when nobody thinks it possible any more, and the next push finds it."""
    await put(edge, ONE)
    await store_untagged(edge, TWO)
    intent = await interrupt(edge, TWO, lands=False)
    await finish(edge)
    await edge.direct.put(REPOSITORY, TAG, TWO)
    await put(edge, THREE)
    await finish(edge)
    await finish(edge)
    first, second = await told(edge, intent)
    assert (first.outcome, second.outcome) == (Outcome.UNKNOWN, Outcome.OVERWRITTEN)
    assert (first.id, second.time) == (intent.id, intent.time)
    assert first.id != second.id
    assert first.id in second.reason


@pytest.mark.parametrize("seen", [False, True])
async def test_h114_a_slow_proxy_tells_how_it_ended_where_the_sweep_could_not(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch, seen: bool
) -> None:
    """Its answer comes back after the sweep has looked."""
    await store_untagged(edge, ONE)
    real = Upstream.put_manifest

    async def slow(self: Upstream, *arguments: Any, **named: Any) -> Answer:
        if not seen:
            await finish(edge)
        answer = await real(self, *arguments, **named)
        if seen:
            await finish(edge)
        return answer

    monkeypatch.setattr(Upstream, "put_manifest", slow)
    await put(edge, ONE)
    events = await edge.events(REPOSITORY)
    expected = [Outcome.CREATED] if seen else [Outcome.UNKNOWN, Outcome.CREATED]
    assert [event.outcome for event in events] == expected
    assert len({event.id for event in events}) == len(events)
    assert len({event.time for event in events}) == 1, "that of the push"
    if not seen:
        assert events[0].id in events[1].reason


async def test_h114_a_proxy_that_stood_still_for_longer_than_it_may_sends_nothing(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it sent could land after the quarantine, when it is told that it never arrived."""
    real = edge.parts.register.intend
    loop = asyncio.get_running_loop()
    late = 0.0

    async def slept(*arguments: Any, **named: Any) -> object:
        nonlocal late
        step = await real(*arguments, **named)
        late = edge.parts.limits.lease
        return step

    monkeypatch.setattr(edge.parts.register, "intend", slept)
    clock = loop.time
    monkeypatch.setattr(loop, "time", lambda: clock() + late)
    answer = await edge.client.put(REPOSITORY, TAG, ONE)
    late = 0.0
    assert answer.status == 503
    assert (await edge.direct.pull(REPOSITORY, TAG)).status == 404
    (event,) = await edge.events(REPOSITORY)
    assert (event.outcome, event.action) == (Outcome.FAILED, Action.PUSH)
    assert "stood still" in event.reason


@pytest.mark.parametrize("lands", [False, True])
async def test_h115_a_guarded_push_that_others_settle_has_its_own_time(edge: RunningEdge, lands: bool) -> None:
    await leave_armed(edge, ONE, "1.0")
    (intent,) = await edge.parts.register.intents(REPOSITORY)
    if lands:
        await edge.direct.put(REPOSITORY, "1.0", ONE)
    await asyncio.sleep(0.05)
    await sweep_of(edge).finish()
    (event,) = await edge.events(REPOSITORY)
    assert (event.id, event.outcome) == (intent.id, Outcome.CREATED if lands else Outcome.FAILED)
    assert event.time == intent.time


async def test_h115_a_claim_that_other_content_takes_over_is_told_with_the_time_of_its_push(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    await leave_armed(edge, ONE, "1.0")
    (intent,) = await edge.parts.register.intents(REPOSITORY)
    await asyncio.sleep(0.05)
    monkeypatch.setattr(type(edge.parts.limits), "quarantine_ms", property(lambda _self: 0))
    object.__setattr__(edge.parts.limits, "quarantine", 0.0)
    with suppress(OciError):
        await put(edge, TWO, "1.0")
    failed, created = await edge.events(REPOSITORY)
    assert (failed.id, failed.outcome, failed.time) == (intent.id, Outcome.FAILED, intent.time)
    assert created.time > intent.time


async def test_h115_a_moving_push_that_the_sweep_tells_has_its_own_time(edge: RunningEdge) -> None:
    intent = await interrupt(edge, index(), lands=True)
    await asyncio.sleep(0.05)
    await finish(edge)
    assert [event.time for event in await told(edge, intent)] == [intent.time]


async def test_h114_sweeps_of_several_proxies_tell_it_once(edge: RunningEdge) -> None:
    unknown = await interrupt(edge, ONE, lands=False)
    await put(edge, ONE)
    arrived = await interrupt(edge, TWO, lands=True)
    await asyncio.gather(*(finish(edge) for _ in range(3)))
    assert [event.outcome for event in await told(edge, unknown)] == [Outcome.UNKNOWN]
    assert [event.outcome for event in await told(edge, arrived)] == [Outcome.OVERWRITTEN]


async def test_h114_what_was_not_proved_within_a_day_is_let_be(edge: RunningEdge) -> None:
    register = edge.parts.register
    intent = await interrupt(edge, ONE, lands=False)
    await put(edge, ONE)
    await finish(edge)
    assert [event.id for event in await register.unproved(REPOSITORY)] == [intent.id]
    interrupted = sweep_of(edge)._interrupted
    await interrupted.reconsider(REPOSITORY, Ages(intent.time + KEPT_MS, intent.time + KEPT_MS, KEPT_MS))
    assert await register.unfinished([REPOSITORY]) == [REPOSITORY]
    await interrupted.reconsider(REPOSITORY, Ages(intent.time + KEPT_MS + 1, intent.time + KEPT_MS + 1, KEPT_MS))
    assert await register.unfinished([REPOSITORY]) == []
