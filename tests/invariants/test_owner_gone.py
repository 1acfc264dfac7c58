"""Claims whose owner is gone, slow or was declared dead: what others, and the owner itself, make of them (H62-H64)."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from immuproxy.edge import record
from immuproxy.edge.answers import Answer
from immuproxy.edge.failpoints import Failpoint
from immuproxy.edge.push.attempt import Limits
from immuproxy.edge.upstream import Upstream
from immuproxy.ledger import keys
from immuproxy.ledger.content import Content
from immuproxy.ledger.model import Action, Outcome, Reply, Step
from tests.support.conversation import Image, RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY, TAG = "team/app", "1.0"


async def leave_armed(edge: RunningEdge, pushed: Image, *, lease_ms: int, token: str = "gone") -> None:
    """The state that a proxy leaves which stops between arming and committing."""
    content = Content(digest=pushed.digest, needs=frozenset({pushed.digest}))
    register = edge.parts.register
    draft = replace(
        record.own(Action.PUSH, Outcome.FAILED, REPOSITORY, tag=TAG, digest=pushed.digest, reason=record.UNKNOWN),
        actor="gone",
    )
    await register.claim(REPOSITORY, TAG, content, token=token, lease_ms=10_000)
    await register.arm(REPOSITORY, TAG, content, token=token, lease_ms=lease_ms, draft=draft, closing=None)


@pytest.fixture
async def blobs(edge: RunningEdge) -> tuple[Image, Image]:
    ours, other = image("ours"), image("other")
    for pushed in (ours, other):
        await edge.direct.blobs(REPOSITORY, pushed)
    return ours, other


@pytest.mark.parametrize("same", [True, False])
async def test_h64_what_arrived_is_settled_long_before_the_lease_ends(
    edge: RunningEdge, blobs: tuple[Image, Image], same: bool
) -> None:
    ours, other = blobs
    await leave_armed(edge, ours, lease_ms=60_000)
    await edge.direct.put(REPOSITORY, TAG, ours)
    began = time.monotonic()
    answer = await edge.client.put(REPOSITORY, TAG, ours if same else other)
    assert answer.status == (201 if same else 409)
    assert time.monotonic() - began < 10
    first, second = await edge.events(REPOSITORY)
    assert (first.outcome, first.actor, first.digest) == (Outcome.CREATED, "gone", ours.digest)
    assert second.outcome is (Outcome.UNCHANGED if same else Outcome.REFUSED)


async def test_h16_a_link_that_a_crash_of_the_registry_left_empty_is_written_again(
    edge: RunningEdge, blobs: tuple[Image, Image], registry: RegistryServer
) -> None:
    ours, _ = blobs
    await leave_armed(edge, ours, lease_ms=0)
    await edge.direct.put(REPOSITORY, TAG, ours)
    (link,) = registry.storage.glob(f"**/{REPOSITORY}/_manifests/tags/{TAG}/current/link")
    link.write_text("")
    assert (await edge.direct.pull(REPOSITORY, TAG)).status == 500
    assert (await edge.client.put(REPOSITORY, TAG, ours)).status == 201
    assert (await edge.direct.pull(REPOSITORY, TAG)).digest == ours.digest


async def test_h16_a_link_that_a_crash_left_empty_keeps_other_content_no_longer_than_the_lease(
    edge: RunningEdge, blobs: tuple[Image, Image], registry: RegistryServer
) -> None:
    """The first push of the tag: nobody else knows its content, and who pushed it does not come back."""
    ours, other = blobs
    await leave_armed(edge, ours, lease_ms=0)
    await edge.direct.put(REPOSITORY, TAG, ours)
    (link,) = registry.storage.glob(f"**/{REPOSITORY}/_manifests/tags/{TAG}/current/link")
    link.write_text("")
    answer = await edge.client.put(REPOSITORY, TAG, other)
    assert (answer.status, answer.error["detail"]["current_digest"]) == (409, ours.digest)
    for client in (edge.client, edge.direct):
        assert (await client.pull(REPOSITORY, TAG)).digest == ours.digest
    first, second = await edge.events(REPOSITORY)
    assert (first.outcome, first.actor, first.digest) == (Outcome.CREATED, "gone", ours.digest)
    assert second.outcome is Outcome.REFUSED
    assert await edge.parts.register.intents(REPOSITORY) == []


async def test_h16_a_link_that_cannot_be_written_again_keeps_the_tag_for_its_content(
    edge: RunningEdge, blobs: tuple[Image, Image], registry: RegistryServer
) -> None:
    ours, other = blobs
    await leave_armed(edge, ours, lease_ms=0)
    await edge.direct.put(REPOSITORY, TAG, ours)
    (link,) = registry.storage.glob(f"**/{REPOSITORY}/_manifests/tags/{TAG}/current/link")
    link.write_text("")
    (revision,) = registry.storage.glob(f"**/{REPOSITORY}/_manifests/revisions/sha256/{ours.digest[7:]}/link")
    revision.unlink()
    assert (await edge.client.put(REPOSITORY, TAG, other)).status == 503
    claim = (await edge.parts.register.read(REPOSITORY, TAG)).claim
    assert claim is not None
    assert claim.digest == ours.digest
    assert (await edge.client.put(REPOSITORY, TAG, ours)).status == 201


async def test_i10_an_owner_that_was_declared_dead_and_goes_on_writes_an_event_of_its_own(
    edge: RunningEdge, blobs: tuple[Image, Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = blobs
    real = Upstream.put_manifest
    register = edge.parts.register

    async def slow(self: Upstream, *arguments: Any, **named: Any) -> Answer:
        monkeypatch.setattr(Upstream, "put_manifest", real)
        claim = (await register.read(REPOSITORY, TAG)).claim
        assert claim is not None
        draft = await register.intent(REPOSITORY, claim.event)
        assert draft is not None
        await register.release(REPOSITORY, TAG, token=claim.token, event=replace(draft, outcome=Outcome.FAILED))
        return await real(self, *arguments, **named)

    monkeypatch.setattr(Upstream, "put_manifest", slow)
    assert (await edge.client.put(REPOSITORY, TAG, ours)).status == 201
    events = await edge.events(REPOSITORY)
    assert [event.outcome for event in events] == [Outcome.FAILED, Outcome.ADOPTED, Outcome.UNCHANGED]
    assert len({event.id for event in events}) == 3
    assert events[0].request_id == events[2].request_id


async def test_h67_an_owner_whose_claim_was_taken_over_commits_nothing(edge: RunningEdge) -> None:
    """Not even the same digest: its event was closed by who took over, and that push writes one of its own (I10)."""
    ours, register = image("ours"), edge.parts.register
    content = Content(digest=ours.digest, needs=frozenset({ours.digest}))
    await leave_armed(edge, ours, lease_ms=0, token="first")
    taken = await register.claim(REPOSITORY, TAG, content, token="second", lease_ms=60_000)
    assert taken.step is Step.RESUMED
    late = record.own(Action.PUSH, Outcome.CREATED, REPOSITORY, tag=TAG, digest=ours.digest)
    reply = await register.commit(REPOSITORY, TAG, content, token="first", event=late, first=True)
    assert (reply.step, reply.record.committed) == (Step.LOST, None)
    assert await edge.events(REPOSITORY) == []


async def test_a_verdict_on_what_was_deleted_meanwhile_is_void(
    edge: RunningEdge, blobs: tuple[Image, Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The overwrite was allowed of a record that is gone when its claim comes: whatever shows is looked at again."""
    edge.use_rules("rules: [{name: fresh, policy: immutable, overwrite: [{within: 15m}]}]")
    ours, other = blobs
    await edge.client.put(REPOSITORY, TAG, ours)
    register = edge.parts.register
    real = register.claim

    async def forgotten(*arguments: Any, **named: Any) -> Reply:
        if named["over_generation"]:
            monkeypatch.setattr(register, "claim", real)
            await edge.store.client.delete(keys.tag(REPOSITORY, TAG))
        return await real(*arguments, **named)

    monkeypatch.setattr(register, "claim", forgotten)
    answer = await edge.client.put(REPOSITORY, TAG, other)
    assert (answer.status, answer.error["detail"]["current_digest"]) == (409, ours.digest)
    told = [event.outcome for event in await edge.events(REPOSITORY)]
    assert told == [Outcome.CREATED, Outcome.ADOPTED, Outcome.REFUSED]


async def test_h62_an_owner_that_slept_through_its_lease_sends_nothing(
    registry: RegistryServer, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = Limits(put=0.2, lease=0.3, quarantine=30)
    monkeypatch.setattr(Limits, "of", classmethod(lambda _cls, _put: short))
    async with edge_over(registry.url, redis_server.url) as edge:
        ours = image("ours")
        await edge.direct.blobs(REPOSITORY, ours)
        real = edge.parts.register.arm

        async def slept(*arguments: Any, **named: Any) -> Reply:
            reply = await real(*arguments, **named)
            await asyncio.sleep(0.4)  # longer than its lease, which Redis's clock ends
            return reply

        monkeypatch.setattr(edge.parts.register, "arm", slept)
        answer = await edge.client.put(REPOSITORY, TAG, ours)
        assert answer.status == 503
        assert (await edge.direct.pull(REPOSITORY, TAG)).status == 404
        monkeypatch.setattr(edge.parts.register, "arm", real)
        monkeypatch.setattr(short.__class__, "of", Limits.of)
        assert (await edge.client.put(REPOSITORY, TAG, ours)).status == 201


async def test_h62_an_owner_that_stood_still_before_the_first_byte_sends_nothing(
    registry: RegistryServer, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped after it has looked at its lease; when it goes on, others may have had their turn."""
    short = Limits(put=0.5, lease=1.0, quarantine=30)
    monkeypatch.setattr(Limits, "of", classmethod(lambda _cls, _put: short))

    def stand_still(point: Failpoint) -> None:
        goes_on = time.monotonic() + (0.7 if point is Failpoint.PUT_SENT else 0)
        while time.monotonic() < goes_on:
            pass

    async with edge_over(registry.url, redis_server.url) as edge:
        ours = image("ours")
        await edge.direct.blobs(REPOSITORY, ours)
        with monkeypatch.context() as stopping:
            stopping.setattr("immuproxy.edge.push.protocol.reach", stand_still)
            assert (await edge.client.put(REPOSITORY, TAG, ours)).status == 503
        assert (await edge.direct.pull(REPOSITORY, TAG)).status == 404
        assert (await edge.client.put(REPOSITORY, TAG, ours)).status == 201


async def test_i10_a_push_that_others_finished_and_overwrote_is_told_once(
    edge: RunningEdge, blobs: tuple[Image, Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its proxy learns only at its commit that a reader finished it; it must not put its content over the newer one."""
    edge.use_rules(
        "default: immutable\nrules: [{name: any, tags: ['*'], policy: immutable, overwrite: [{within: 1h}]}]"
    )
    ours, other = blobs
    stored = edge.parts.register.commit
    late, overwritten = asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any, **named: Any) -> Reply:
        if arguments[2].digest == ours.digest:
            late.set()
            await overwritten.wait()
        return await stored(*arguments, **named)

    monkeypatch.setattr(edge.parts.register, "commit", slow)
    pushing = asyncio.create_task(edge.client.put(REPOSITORY, TAG, ours))
    await late.wait()
    assert (await edge.client.pull(REPOSITORY, TAG)).digest == ours.digest
    assert (await edge.client.put(REPOSITORY, TAG, other)).status == 201
    overwritten.set()
    assert (await pushing).status == 201
    assert (await edge.client.pull(REPOSITORY, TAG)).digest == other.digest
    events = await edge.events(REPOSITORY)
    assert [(event.outcome, event.digest) for event in events] == [
        (Outcome.CREATED, ours.digest),
        (Outcome.OVERWRITTEN, other.digest),
    ]
