"""Drift on its page and in the API, over a real Redis."""

from __future__ import annotations

from typing import Any

import pytest

from immuproxy.audit.record import Projector
from immuproxy.console.sources import Sources
from immuproxy.ledger import keys
from immuproxy.ledger.model import Action, Event, Outcome
from immuproxy.store.redis import Store
from tests.console.conftest import Console
from tests.console.events import HOSTILE, digest, push


async def drifted(sources: Sources, store: Store, repository: str, tag: str, seen: str = "") -> None:
    client: Any = store.client
    await client.sadd(keys.REPOSITORIES, repository)
    await client.hset(
        keys.tag(repository, tag), mapping={"digest": digest("one"), "generation": 1, "since": 1, "first": 1}
    )
    event = Event(
        id=f"d-{repository}-{tag}",
        action=Action.DRIFT,
        outcome=Outcome.FOUND,
        repository=repository,
        tag=tag,
        digest=seen,
        previous_digest=digest("one"),
        reason="the upstream shows other content under this tag",
    )
    assert await sources.register.open_drift(repository, tag, seen=seen, held=digest("one"), event=event)


async def test_agreement_is_said(console: Console) -> None:
    page = await (await console.get("/drift")).text()
    assert "Registry and ledger agree" in page
    assert "Nothing has ever drifted" in page


async def test_an_open_finding_with_its_failed_repair(console: Console, sources: Sources, store: Store) -> None:
    await drifted(sources, store, "team/app", "1.0", digest("two"))
    failure = f"the upstream answered 403: {HOSTILE}"
    await sources.register.record(push(Outcome.FAILED, action=Action.REPAIR, reason=failure, id="tried"))
    await Projector(store).sweep()
    found = await (await console.get("/api/v1/drift")).json()
    (finding,) = found["findings"]
    assert (found["open"], finding["kind"], finding["held"]) == (1, "moved", digest("one"))
    assert finding["attempt"]["event"] == "tried"
    assert [row["outcome"] for row in found["history"]] == ["failed", "found"]
    page = await (await console.get("/drift")).text()
    assert "upstream.username" in page
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page


async def test_a_repair_from_before_the_finding_is_not_its_own(
    console: Console, sources: Sources, store: Store
) -> None:
    await sources.register.record(push(Outcome.FAILED, action=Action.REPAIR, reason="long ago", id="old", time=1))
    await Projector(store).sweep()
    client: Any = store.client
    await drifted(sources, store, "team/app", "1.0")
    later = int((await client.time())[0]) * 1000 + 60_000
    await client.hset(keys.drift("team/app"), "1.0", f"- {later}")
    (finding,) = (await (await console.get("/api/v1/drift")).json())["findings"]
    assert finding["attempt"] is None


async def test_findings_are_paged(console: Console, sources: Sources, store: Store) -> None:
    for repository in ("a", "b", "c"):
        await drifted(sources, store, repository, "1")
    seen, cursor = [], ""
    while True:
        found = await (await console.get("/api/v1/drift", params={"limit": "1", "cursor": cursor})).json()
        assert found["open"] == 3
        seen += [finding["repository"] for finding in found["findings"]]
        cursor = found["next_cursor"]
        if not cursor:
            break
    assert seen == ["a", "b", "c"]


async def test_a_finding_that_was_closed_is_history(console: Console, sources: Sources, store: Store) -> None:
    await drifted(sources, store, "team/app", "1.0", digest("two"))
    await sources.register.close_drift("team/app", "1.0", push(Outcome.HEALED, action=Action.REPAIR, id="healed"))
    await Projector(store).sweep()
    found = await (await console.get("/api/v1/drift")).json()
    assert (found["open"], found["findings"], found["healed"]) == (0, [], 1)
    assert found["history"][0]["after_ms"] is not None


@pytest.mark.parametrize("query", ["limit=101", "limit=0", "cursor=x", "history_cursor=x", "since=7d"])
async def test_what_makes_no_sense_is_refused(console: Console, query: str) -> None:
    assert (await console.get(f"/api/v1/drift?{query}")).status == 400
