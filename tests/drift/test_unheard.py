"""An index that cannot answer is no witness: how something ended is found out without it, or told later (H133)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from immuproxy.audit import Visitor, stream, walking
from immuproxy.audit.record import Projector, Record
from immuproxy.audit.writing import Writer
from immuproxy.drift.interrupted import KEPT_MS
from immuproxy.edge.answers import Answer
from immuproxy.edge.upstream import OutcomeUnknownError, Upstream
from immuproxy.ledger import keys
from immuproxy.ledger.model import Action, Event, Outcome
from immuproxy.ledger.watch import Ages
from tests.audit.following import Followed, followed
from tests.audit.made_up import made_up_events
from tests.audit.recording import recorded
from tests.drift.test_interrupted import ONE, REPOSITORY, TAG, THREE, TWO, edge, finish, interrupt, put, store_untagged
from tests.drift.test_interrupted_deletes import left_open
from tests.drift.test_sweep import AT_ONCE, sweep_of
from tests.support.conversation import RunningEdge

__all__ = ["edge"]


async def allow(here: Followed, pages: int) -> None:
    """How large the index may become; 0: no larger than it is."""

    def limit(writer: Writer) -> None:
        writer._connection.execute(f"PRAGMA max_page_count = {pages or writer.pages()}")

    await here.index.write(limit)


async def fail(here: Followed, edge: RunningEdge) -> None:
    """The disk is full, and more is recorded."""
    await allow(here, 0)
    now = await edge.store.now_ms()
    for event in made_up_events(200, start=now):
        await Record(edge.store).append(replace(event, time=now, repository="team/other"))

    async def has_failed() -> bool:
        return here.follower.failed is not None

    await here.until(has_failed)


async def recover(here: Followed, edge: RunningEdge) -> None:
    await allow(here, 10**6)
    await here.until_all(await stream.length(edge.store))


@asynccontextmanager
async def on_a_full_disk(edge: RunningEdge, folder: Path) -> AsyncIterator[Followed]:
    """The proxy asks an index that has what was recorded before, and nothing since."""
    async with followed(edge.store, folder) as here:
        await Projector(edge.store).sweep()
        await here.until_all(await stream.length(edge.store))
        await fail(here, edge)
        edge.parts.witnesses._record = here.audit
        yield here


async def told(edge: RunningEdge, intent: Event) -> list[Outcome]:
    """Carried into the audit, or not yet; oldest first."""
    events = [*await recorded(edge.store), *await edge.events(REPOSITORY)]
    return [event.outcome for event in events if event.request_id == intent.request_id]


async def test_h133_a_push_that_never_arrived_has_failed_though_the_index_cannot_say_that_nobody_deleted_it(
    edge: RunningEdge, tmp_path: Path
) -> None:
    async with on_a_full_disk(edge, tmp_path):
        intent = await interrupt(edge, ONE, lands=False)
        await finish(edge)
        assert await told(edge, intent) == [Outcome.FAILED]


async def test_h133_a_push_by_digest_is_created_though_the_index_cannot_say_that_nobody_else_pushed_it(
    edge: RunningEdge, tmp_path: Path
) -> None:
    async with on_a_full_disk(edge, tmp_path):
        intent = await interrupt(edge, ONE, ONE.digest, lands=True)
        await finish(edge)
        assert await told(edge, intent) == [Outcome.CREATED]


async def test_h133_a_delete_has_failed_though_the_index_cannot_say_that_nobody_pushed_again(
    edge: RunningEdge, tmp_path: Path
) -> None:
    await put(edge, ONE)
    async with on_a_full_disk(edge, tmp_path):
        intent = await left_open(edge, Action.DELETE_MANIFEST, digest=ONE.digest)
        await finish(edge)
        (event,) = await edge.events(REPOSITORY)
        assert (event.id, event.outcome) == (intent.id, Outcome.FAILED)


async def test_h133_a_push_of_which_nobody_can_tell_for_now_is_told_when_the_index_has_come_back(
    edge: RunningEdge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So much is recorded that the stream cannot be walked by in time."""
    monkeypatch.setattr(walking, "SECONDS", 0.0)
    async with on_a_full_disk(edge, tmp_path) as here:
        intent = await interrupt(edge, ONE, lands=False)
        await finish(edge)
        assert await told(edge, intent) == []
        await recover(here, edge)
        await finish(edge)
        assert await told(edge, intent) == [Outcome.FAILED]


async def test_h133_a_push_of_which_nobody_could_tell_for_a_day_is_unknown(
    edge: RunningEdge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "SECONDS", 0.0)
    async with on_a_full_disk(edge, tmp_path):
        intent = await interrupt(edge, ONE, lands=False)
        later = intent.time + KEPT_MS + 1
        await sweep_of(edge, lease=AT_ONCE)._interrupted.finish(intent, Ages(later, later, KEPT_MS))
        assert await told(edge, intent) == [Outcome.UNKNOWN]


async def test_h133_the_mark_of_a_delete_waits_for_no_index(
    edge: RunningEdge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pushes of the content wait for it."""
    monkeypatch.setattr(walking, "SECONDS", 0.0)
    await put(edge, ONE)
    async with on_a_full_disk(edge, tmp_path):
        intent = await left_open(edge, Action.DELETE_MANIFEST, digest=ONE.digest)
        await finish(edge)
        (event,) = await edge.events(REPOSITORY)
        assert (event.id, event.outcome) == (intent.id, Outcome.UNKNOWN)
        client: Any = edge.store.client
        assert await client.zscore(keys.marks(REPOSITORY), ONE.digest) is None


async def test_h133_what_was_told_without_proof_is_told_again_when_the_index_has_come_back(
    edge: RunningEdge, tmp_path: Path
) -> None:
    await put(edge, ONE)
    await store_untagged(edge, TWO)
    intent = await interrupt(edge, TWO, lands=False)
    await finish(edge)
    await edge.direct.put(REPOSITORY, TAG, TWO)
    async with on_a_full_disk(edge, tmp_path) as here:
        await put(edge, THREE)
        await finish(edge)
        assert await told(edge, intent) == [Outcome.UNKNOWN], "nobody walks back a day for it"
        await recover(here, edge)
        await finish(edge)
        assert await told(edge, intent) == [Outcome.UNKNOWN, Outcome.OVERWRITTEN]


async def test_h133_a_client_whose_push_got_no_answer_does_not_wait_for_an_index(
    edge: RunningEdge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Upstream.put_manifest

    async def unanswered(self: Upstream, *arguments: Any, **named: Any) -> Answer:
        await real(self, *arguments, **named)
        raise OutcomeUnknownError("no answer")

    async def walked(*_arguments: Any) -> Any:
        raise AssertionError("it was walked by the stream")

    async with on_a_full_disk(edge, tmp_path):
        with monkeypatch.context() as patched:
            patched.setattr(Upstream, "put_manifest", unanswered)
            patched.setattr(Visitor, "told", walked)
            began = monotonic()
            assert (await edge.client.put(REPOSITORY, TAG, ONE)).status == 503
            assert monotonic() - began < 5
        (intent,) = await edge.parts.register.intents(REPOSITORY)
        await finish(edge)
        assert await told(edge, intent) == [Outcome.CREATED]
