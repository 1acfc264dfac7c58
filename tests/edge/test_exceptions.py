"""A temporary exception allows one overwrite that the rules would refuse, and says so in the audit."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from immuproxy.ledger import keys
from immuproxy.ledger.ids import new_event_id
from immuproxy.ledger.model import Action, ActorSource, Event, Outcome
from tests.support.conversation import RunningEdge, image

GRANT = Event(
    id="",
    action=Action.EXCEPTION,
    outcome=Outcome.GRANTED,
    repository="team/app",
    tag="1.0",
    reason="rebuild after a leaked key",
    actor="ops",
    actor_source=ActorSource.OPERATOR,
)


def grant(digest: str = "") -> Event:
    return replace(GRANT, id=new_event_id(), digest=digest)


async def test_an_exception_in_force_allows_the_overwrite_and_is_named(edge: RunningEdge) -> None:
    await edge.client.push("team/app", "1.0", image("one"))
    granted = grant()
    await edge.parts.exceptions.grant(granted, lasts_ms=60_000)
    assert (await edge.client.push("team/app", "1.0", image("two"))).status == 201
    event = (await edge.events("team/app"))[-1]
    assert event.outcome is Outcome.OVERWRITTEN
    assert "rebuild after a leaked key" in event.reason
    assert granted.id in event.reason


async def test_an_exception_for_one_digest_allows_no_other(edge: RunningEdge) -> None:
    await edge.client.push("team/app", "1.0", image("one"))
    await edge.parts.exceptions.grant(grant(image("two").digest), lasts_ms=60_000)
    assert (await edge.client.push("team/app", "1.0", image("three"))).status == 409
    assert (await edge.client.push("team/app", "1.0", image("two"))).status == 201


async def test_an_exception_whose_time_is_over_allows_nothing(edge: RunningEdge) -> None:
    await edge.client.push("team/app", "1.0", image("one"))
    await edge.parts.exceptions.grant(grant(), lasts_ms=0)
    assert (await edge.client.push("team/app", "1.0", image("two"))).status == 409


async def test_an_exception_that_tells_no_time_of_the_ledgers_own_ends_by_its_date(edge: RunningEdge) -> None:
    await edge.client.push("team/app", "1.0", image("one"))
    await edge.parts.exceptions.grant(grant(), lasts_ms=60_000)
    client: Any = edge.store.client
    kept = json.loads(await client.hget(keys.exceptions("team/app"), "1.0"))
    del kept["over"]
    await client.hset(keys.exceptions("team/app"), "1.0", json.dumps(kept))
    assert (await edge.client.push("team/app", "1.0", image("two"))).status == 201


async def test_an_exception_can_be_ended_once(edge: RunningEdge) -> None:
    await edge.client.push("team/app", "1.0", image("one"))
    await edge.parts.exceptions.grant(grant(), lasts_ms=60_000)
    exemption = await edge.parts.exceptions.of("team/app", "1.0")
    assert exemption is not None
    ending = replace(GRANT, id=new_event_id(), outcome=Outcome.ENDED)
    assert await edge.parts.exceptions.end(exemption, ending)
    assert not await edge.parts.exceptions.end(exemption, ending)
    assert (await edge.client.push("team/app", "1.0", image("two"))).status == 409
    told = [event.outcome for event in await edge.events("team/app") if event.action is Action.EXCEPTION]
    assert told == [Outcome.GRANTED, Outcome.ENDED]
