"""The sweep finishes what nobody else will, and not before it can be sure (H16, H34, H35, H64, H77)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from immuproxy.allow.exceptions import Allows
from immuproxy.drift import sweep as sweep_module
from immuproxy.drift.polite_client import Questions
from immuproxy.drift.service import service_caller
from immuproxy.drift.sweep import Sweep
from immuproxy.drift.verifying import Verifier
from immuproxy.edge import record
from immuproxy.edge.answers import Answer
from immuproxy.edge.push.attempt import Limits
from immuproxy.edge.upstream import OutcomeUnknownError, Upstream
from immuproxy.ledger import keys
from immuproxy.ledger.content import Content
from immuproxy.ledger.ids import new_event_id
from immuproxy.ledger.model import Action, Event, Outcome, Step
from immuproxy.store.redis import LedgerUnavailableError
from tests.support.conversation import Image, RunningEdge, edge_over, image, index
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY = "team/app"
LATER = 600_000
AT_ONCE = -1.0
"""A lease that is over within the very millisecond of its intent."""


@pytest.fixture
async def edge(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    async with edge_over(registry.url, redis_server.url) as running:
        yield running


def sweep_of(edge: RunningEdge, *, lease: float = 0.0, quarantine: float = 0.0) -> Sweep:
    """A sweep that takes every owner for gone after `lease` seconds."""
    return sweep_with(edge, Limits(put=1.0, lease=lease, quarantine=quarantine))


def sweep_with(edge: RunningEdge, limits: Limits) -> Sweep:
    parts = edge.parts
    return Sweep(
        rules=lambda: edge.rules[0],
        register=parts.register,
        epoch=parts.epoch,
        exceptions=parts.exceptions,
        upstream=parts.healer._upstream,
        recovery=parts.recovery,
        limits=limits,
        healer=parts.healer,
        caller=service_caller(None, None),
        witnesses=parts.witnesses,
    )


async def left_delete(edge: RunningEdge, digest: str) -> Event:
    """The state that a proxy leaves which stops after marking and before it knows the outcome."""
    draft = record.own(Action.DELETE_MANIFEST, Outcome.FAILED, REPOSITORY, digest=digest, reason=record.UNKNOWN)
    step = await edge.parts.register.begin_delete(REPOSITORY, digest, holders=(), deadline_ms=LATER, draft=draft)
    assert step is Step.GRANTED
    return draft


async def untagged(edge: RunningEdge, seed: str) -> Image:
    pushed = image(seed)
    await edge.direct.push(REPOSITORY, pushed.digest, pushed)
    return pushed


async def is_marked(edge: RunningEdge, digest: str) -> bool:
    client: Any = edge.store.client
    return await client.zscore(keys.marks(REPOSITORY), digest) is not None


async def test_h77_a_mark_stays_for_as_long_as_its_delete_could_still_land(edge: RunningEdge) -> None:
    pushed = await untagged(edge, "one")
    await left_delete(edge, pushed.digest)
    await sweep_of(edge, quarantine=600).once()
    assert await is_marked(edge, pushed.digest)
    assert await edge.events(REPOSITORY) == []
    await sweep_of(edge).once()
    assert not await is_marked(edge, pushed.digest)
    (event,) = await edge.events(REPOSITORY)
    assert (event.action, event.outcome) == (Action.DELETE_MANIFEST, Outcome.FAILED)


async def test_h35_a_delete_that_landed_is_recorded_at_once(edge: RunningEdge) -> None:
    pushed = await untagged(edge, "one")
    await left_delete(edge, pushed.digest)
    await edge.direct.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{pushed.digest}")
    await sweep_of(edge, quarantine=600).once()
    assert not await is_marked(edge, pushed.digest)
    assert [event.outcome for event in await edge.events(REPOSITORY)] == [Outcome.DELETED]


async def test_a_delete_that_was_interrupted_still_names_the_exception_that_let_it_go(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed, register = image("one"), edge.parts.register
    await edge.client.push(REPOSITORY, "1.0", pushed)
    granted = Event(id=new_event_id(), action=Action.EXCEPTION, outcome=Outcome.GRANTED)
    granted = replace(granted, repository=REPOSITORY, tag="1.0")
    await edge.parts.exceptions.grant(granted, lasts_ms=60_000, allows=Allows.DELETE)

    async def lost(*_args: object, **_values: object) -> bool:
        raise LedgerUnavailableError("cut off")

    with monkeypatch.context() as patched:
        patched.setattr(register, "end_delete", lost)
        answer = await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{pushed.digest}")
        assert answer.status == 503
    await sweep_of(edge).once()
    event = (await edge.events(REPOSITORY))[-1]
    assert event.outcome is Outcome.DELETED
    assert f"event {granted.id}, " in event.reason
    assert (await register.read(REPOSITORY, "1.0")).tombstone is not None


async def test_h34_what_is_being_deleted_is_not_adopted(edge: RunningEdge) -> None:
    pushed = await untagged(edge, "one")
    await left_delete(edge, pushed.digest)
    await edge.direct.put(REPOSITORY, "1.0", pushed)
    assert (await edge.client.pull(REPOSITORY, "1.0")).status == 404
    answer = await edge.client.push(REPOSITORY, "1.0", image("two"))
    assert answer.status == 503
    found = await edge.parts.register.read(REPOSITORY, "1.0")
    assert (found.committed, found.claim) == (None, None)
    await sweep_of(edge).once()
    assert (await edge.client.pull(REPOSITORY, "1.0")).digest == pushed.digest


async def test_h77_a_proxy_that_slept_after_marking_deletes_nothing(
    registry: RegistryServer, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with edge_over(registry.url, redis_server.url) as edge:
        pushed = await untagged(edge, "one")
        monkeypatch.setattr(edge.parts.edge._deletes, "_longest", -1.0)
        answer = await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{pushed.digest}")
        assert answer.status == 503
        assert (await edge.direct.pull(REPOSITORY, pushed.digest)).status == 200


@pytest.mark.parametrize("link_of", ["tags/*/current", "revisions/sha256/*"])
async def test_h16_a_link_that_the_registry_left_empty_is_healed_by_the_sweep(
    edge: RunningEdge, registry: RegistryServer, link_of: str
) -> None:
    ours, next_ = image("ours"), image("next")
    await edge.client.push(REPOSITORY, "1.0", ours)
    await edge.client.push(REPOSITORY, "2.0", next_)
    links = list(registry.storage.glob(f"**/{REPOSITORY}/_manifests/{link_of}/link"))
    assert len(links) == 2
    for link in links:
        link.write_text("")
    await sweep_of(edge).once()
    assert (await edge.direct.pull(REPOSITORY, "1.0")).digest == ours.digest
    assert (await edge.direct.pull(REPOSITORY, "2.0")).digest == next_.digest


async def test_a_moving_push_that_the_sweep_gave_up_too_early_is_told_as_it_ended(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its proxy stood still for longer than any push should take, and went on."""
    pushed = image("one")
    await edge.client.blobs(REPOSITORY, pushed)
    real = Upstream.put_manifest

    async def slow(self: Upstream, *arguments: Any, **named: Any) -> Answer:
        await asyncio.sleep(0.01)  # a lease of no length is over when the ledger's clock has moved on
        await sweep_of(edge).once()
        return await real(self, *arguments, **named)

    monkeypatch.setattr(Upstream, "put_manifest", slow)
    assert (await edge.client.put(REPOSITORY, "latest", pushed)).status == 201
    events = [event for event in await edge.events(REPOSITORY) if event.tag]
    assert [event.outcome for event in events] == [Outcome.FAILED, Outcome.CREATED]
    assert len({event.id for event in events}) == 2


async def test_a_moving_push_that_could_still_land_is_left_open(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = image("one")
    await edge.client.blobs(REPOSITORY, pushed)

    async def lost(self: Upstream, *arguments: Any, **named: Any) -> Answer:
        raise OutcomeUnknownError("nothing came back")

    with monkeypatch.context() as patched:
        patched.setattr(Upstream, "put_manifest", lost)
        assert (await edge.client.put(REPOSITORY, "latest", pushed)).status == 503
    await sweep_of(edge, quarantine=600).once()
    assert [event for event in await edge.events(REPOSITORY) if event.tag] == []
    await edge.direct.put(REPOSITORY, "latest", pushed)
    await sweep_of(edge, quarantine=600).once()
    (event,) = [event for event in await edge.events(REPOSITORY) if event.tag]
    assert event.outcome is Outcome.CREATED


async def test_a_comparison_of_a_whole_repository_is_noted_and_an_unfinished_one_is_not(
    edge: RunningEdge, registry: RegistryServer
) -> None:
    await edge.client.push(REPOSITORY, "1.0", image("one"))
    await edge.client.push(REPOSITORY, "2.0", image("two"))
    comparisons, client = edge.parts.register.comparisons, edge.store.client
    await sweep_of(edge).once()
    first = await comparisons.progress()
    assert (first.known, first.repositories, first.oldest_repository) == (1, 1, REPOSITORY)
    await edge.store.do(client.delete(keys.compared(REPOSITORY)))
    registry.kill()
    await sweep_of(edge).once()
    assert await comparisons.progress() == first


async def test_h64_what_a_lost_proxy_only_claimed_is_given_back(edge: RunningEdge) -> None:
    """Else it would pin what it was for, and no delete of that would ever be let through."""
    pushed = await untagged(edge, "one")
    register, content = edge.parts.register, Content(digest=pushed.digest, needs=frozenset({pushed.digest}))
    await register.claim(REPOSITORY, "living", content, token="here", lease_ms=LATER)
    await register.claim(REPOSITORY, "1.0", content, token="gone", lease_ms=1)
    await asyncio.sleep(0.01)
    await sweep_of(edge).once()
    assert (await register.read(REPOSITORY, "1.0")).claim is None
    assert (await register.read(REPOSITORY, "living")).claim is not None
    assert await register.pin_count(REPOSITORY, pushed.digest) == 1
    assert await edge.events(REPOSITORY) == []


async def test_h64_what_became_of_a_claim_after_all_is_left_alone(edge: RunningEdge) -> None:
    pushed = await untagged(edge, "one")
    assert (await edge.client.put(REPOSITORY, "1.0", pushed)).status == 201
    await leave_armed(edge, pushed, "2.0")
    await sweep_of(edge, lease=600, quarantine=600).once()
    assert (await edge.parts.register.read(REPOSITORY, "1.0")).claim is None
    assert (await edge.parts.register.read(REPOSITORY, "2.0")).claim is not None


async def test_h16_an_overwrite_that_ended_in_an_empty_link_is_given_up_and_what_the_tag_held_is_put_back(
    edge: RunningEdge, registry: RegistryServer
) -> None:
    held, pushed = image("held"), await untagged(edge, "one")
    await edge.client.push(REPOSITORY, "1.0", held)
    await leave_armed(edge, pushed, "1.0", over=held)
    (registry.storage / f"docker/registry/v2/repositories/{REPOSITORY}/_manifests/tags/1.0/current/link").write_bytes(
        b""
    )
    await sweep_of(edge, quarantine=600).once()
    assert (await edge.parts.register.read(REPOSITORY, "1.0")).claim is not None
    await edge.store.client.delete(keys.compared(REPOSITORY))
    await sweep_of(edge).once()
    assert (await edge.direct.pull(REPOSITORY, "1.0")).digest == held.digest
    assert await edge.parts.register.intents(REPOSITORY) == []


async def test_h16_a_first_push_that_ended_in_an_empty_link_is_finished(
    edge: RunningEdge, registry: RegistryServer
) -> None:
    pushed = await untagged(edge, "one")
    await leave_armed(edge, pushed, "1.0")
    await edge.direct.put(REPOSITORY, "1.0", pushed)
    (link,) = registry.storage.glob(f"**/{REPOSITORY}/_manifests/tags/1.0/current/link")
    link.write_bytes(b"")
    await sweep_of(edge).finish()
    assert (await edge.direct.pull(REPOSITORY, "1.0")).digest == pushed.digest
    committed = (await edge.parts.register.read(REPOSITORY, "1.0")).committed
    assert committed is not None
    assert committed.digest == pushed.digest
    assert await edge.parts.register.intents(REPOSITORY) == []


async def test_how_many_findings_are_open_is_told_after_each_pass(edge: RunningEdge) -> None:
    told = list[int]()
    sweep = sweep_of(edge)
    sweep._open_drift = told.append
    ours = image("ours")
    await edge.client.push(REPOSITORY, "1.0", ours)
    event = record.own(Action.DRIFT, Outcome.FOUND, REPOSITORY, tag="1.0")
    await sweep.finish()
    await edge.parts.register.open_drift(REPOSITORY, "1.0", seen="", held=ours.digest, event=event)
    await sweep.finish()
    await edge.parts.healer.check(await edge.parts.register.read(REPOSITORY, "1.0"))
    await sweep.finish()
    assert told == [0, 1, 0]


async def leave_armed(edge: RunningEdge, pushed: Image, tag: str, *, over: Image | None = None) -> None:
    content = Content(digest=pushed.digest, needs=frozenset({pushed.digest}))
    draft = record.own(Action.PUSH, Outcome.FAILED, REPOSITORY, tag=tag, digest=pushed.digest, reason=record.UNKNOWN)
    held: dict[str, Any] = {"over_generation": 1, "over_digest": over.digest} if over else {}
    await edge.parts.register.claim(REPOSITORY, tag, content, token="armed", lease_ms=1, **held)
    await edge.parts.register.arm(REPOSITORY, tag, content, token="armed", lease_ms=1, draft=draft, closing=None)


class KilledError(Exception):
    """Stands for the end of the process: nothing after it is done."""


def kill_at_the_put(patched: pytest.MonkeyPatch, *, lands: bool) -> None:
    real = Upstream.put_manifest

    async def killed(self: Upstream, *arguments: Any, **named: Any) -> Answer:
        if lands:
            await real(self, *arguments, **named)
        raise KilledError

    patched.setattr(Upstream, "put_manifest", killed)


@pytest.mark.parametrize("lands", [True, False])
async def test_h92_a_push_that_brings_back_what_was_lost_has_its_event_whatever_happens(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch, lands: bool
) -> None:
    pushed = image("one")
    await edge.client.push(REPOSITORY, "1.0", pushed)
    await edge.direct.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{pushed.digest}")
    with monkeypatch.context() as patched:
        kill_at_the_put(patched, lands=lands)
        assert (await edge.client.put(REPOSITORY, "1.0", pushed)).status == 500
    (intent,) = await edge.parts.register.intents(REPOSITORY)
    assert (intent.action, intent.tag, intent.digest) == (Action.PUSH, "1.0", pushed.digest)
    await sweep_of(edge, lease=AT_ONCE).finish()
    assert await edge.parts.register.intents(REPOSITORY) == []
    event = (await edge.events(REPOSITORY))[-1]
    assert (event.id, event.outcome) == (intent.id, Outcome.UNCHANGED if lands else Outcome.FAILED)
    found = await edge.parts.register.read(REPOSITORY, "1.0")
    assert found.committed is not None, "the tag keeps what it holds"
    assert (await edge.client.put(REPOSITORY, "1.0", pushed)).status == 201
    assert (await edge.direct.pull(REPOSITORY, "1.0")).digest == pushed.digest
    assert [event.outcome for event in await edge.events(REPOSITORY)][2:] == [Outcome.UNCHANGED]


@pytest.mark.parametrize("lands", [True, False])
async def test_h92_a_repair_by_verify_has_its_event_whatever_happens(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch, lands: bool
) -> None:
    child = image("child")
    await edge.client.push(REPOSITORY, "1.0", index(child))
    await edge.direct.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{child.digest}")
    parts = edge.parts
    verifier = Verifier(parts.register, parts.healer, Questions(parts.healer._upstream, service_caller(None, None)))
    with monkeypatch.context() as patched:
        kill_at_the_put(patched, lands=lands)
        with pytest.raises(KilledError):
            _ = [checked async for checked in verifier.run([REPOSITORY], heal=True)]
    await sweep_of(edge, lease=AT_ONCE).finish()
    event = (await edge.events(REPOSITORY))[-1]
    assert (event.action, event.outcome) == (Action.REPAIR, Outcome.HEALED if lands else Outcome.FAILED)
    assert (event.tag, event.digest) == ("1.0", child.digest)
    assert await parts.register.intents(REPOSITORY) == []


async def test_a_part_that_fails_leaves_none_behind(edge: RunningEdge, monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins again by itself; were both one work, the other part would be there once more each time."""
    monkeypatch.setattr(sweep_module, "INTERVAL", 0.01)
    client: Any = edge.store.client
    await client.zadd(keys.DRIFTING, {b"\xff": 1})  # no name of a repository
    finish, *_ = sweep_of(edge).works
    before = asyncio.all_tasks()
    with pytest.raises(UnicodeDecodeError):
        await finish()
    assert asyncio.all_tasks() == before
