"""No one item keeps background work from the others, and idle names cost next to nothing (H94, H96)."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from immuproxy.audit.record.project import Projector
from immuproxy.drift.apart import apart
from immuproxy.drift.comparing import Comparison
from immuproxy.edge import record
from immuproxy.edge.closure import MAX_DEPTH
from immuproxy.ledger import keys
from immuproxy.ledger.model import Action, Outcome
from immuproxy.store.redis import LedgerUnavailableError
from tests.drift.test_sweep import sweep_of
from tests.support.conversation import Image, RunningEdge, edge_over, image, index
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY = "team/app"


@pytest.fixture
async def edge(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    async with edge_over(registry.url, redis_server.url) as running:
        yield running


async def left(edge: RunningEdge, repository: str) -> None:
    """A push by digest whose proxy is gone."""
    pushed = image("one")
    draft = record.own(Action.PUSH, Outcome.FAILED, repository, digest=pushed.digest, reason=record.UNKNOWN)
    await edge.direct.push(repository, pushed.digest, pushed)
    await edge.parts.register.intend(repository, "", frozenset(), draft)


@pytest.mark.blocking_allowed  # traces are drawn with a look at the source
async def test_h94_what_nobody_can_read_keeps_the_sweep_from_nothing_else(edge: RunningEdge) -> None:
    """In the order of their names one intent that is no JSON, one key of a wrong type, and one push to be finished."""
    client: Any = edge.store.client
    for repository in ("a/no-json", "b/wrong-type"):
        draft = record.own(Action.PUSH, Outcome.FAILED, repository)
        await edge.parts.register.intend(repository, "", frozenset(), draft)
    await client.hset(keys.intents("a/no-json"), "x", "{")
    await client.delete(keys.intents("b/wrong-type"))
    await client.set(keys.intents("b/wrong-type"), "x")
    await left(edge, REPOSITORY)
    await sweep_of(edge, lease=-1).once()
    assert [event.outcome for event in await edge.events(REPOSITORY)] == [Outcome.CREATED]


@pytest.mark.blocking_allowed  # traces are drawn with a look at the source
async def test_h94_a_tag_that_the_comparison_cannot_read_hides_no_other(edge: RunningEdge) -> None:
    pushed = image("one")
    for tag in ("1.0", "2.0"):
        assert (await edge.client.push(REPOSITORY, tag, pushed)).status == 201
    await edge.store.do(edge.store.client.hset(keys.tag(REPOSITORY, "1.0"), "generation", "x"))
    other = image("other")
    await edge.direct.push(REPOSITORY, "2.0", other)
    await sweep_of(edge).compare()
    assert (await edge.direct.pull(REPOSITORY, "2.0")).digest == pushed.digest


@pytest.mark.blocking_allowed  # Redis is ended from within the comparison
async def test_h94_where_redis_goes_away_in_the_middle_of_a_comparison_it_ends(
    edge: RunningEdge, redis_server: RedisServer
) -> None:
    for tag in ("1.0", "2.0", "3.0"):
        assert (await edge.client.push(REPOSITORY, tag, image("one"))).status == 201
    parts = edge.parts
    comparison = Comparison(parts.register, parts.healer, parts.healer._upstream, counted=lambda _: redis_server.kill())
    with capture_logs() as logged, pytest.raises(LedgerUnavailableError):
        await comparison.once()
    assert [line for line in logged if line["event"] == "not compared"] == []


async def test_h94_a_tag_that_redis_does_not_give_out_is_told_without_a_trace(edge: RunningEdge) -> None:
    assert (await edge.client.push(REPOSITORY, "1.0", image("one"))).status == 201
    await edge.store.do(edge.store.client.set(keys.tag(REPOSITORY, "1.0"), "no hash"))
    with capture_logs() as logged:
        await sweep_of(edge).compare()
    assert [line["log_level"] for line in logged if line["event"] == "not compared"] == ["warning"]


async def test_h94_where_it_is_redis_that_is_away_the_walk_ends() -> None:
    async def fails() -> None:
        raise LedgerUnavailableError("away")

    with pytest.raises(LedgerUnavailableError):
        await apart(fails(), fails, repository=REPOSITORY)


async def test_h94_a_chain_of_indexes_is_refused_and_deletes_say_why(edge: RunningEdge) -> None:
    made = [index(image("one"))]
    while len(made) <= MAX_DEPTH:
        made.append(index(made[-1]))
    await edge.direct.push(REPOSITORY, "1.0", made[-1])
    assert (await edge.client.put(REPOSITORY, "2.0", made[-2])).status == 201
    answer = await edge.client.put(REPOSITORY, "3.0", made[-1])
    assert (answer.status, answer.error["code"]) == (400, "UNSUPPORTED")
    assert f"more than {MAX_DEPTH} deep" in answer.error["message"]
    answer = await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{image('other').digest}")
    assert (answer.status, answer.error["code"]) == (405, "UNSUPPORTED")
    assert "because of team/app:1.0: indexes are nested" in answer.error["message"]
    told = (await edge.events(REPOSITORY))[-1]
    assert (told.action, told.outcome, told.id) == ("delete-manifest", "refused", answer.error["detail"]["event"])
    assert told.reason in answer.error["message"]


async def test_h96_names_to_which_nothing_is_pushed_with_success_leave_no_key(edge: RunningEdge) -> None:
    pushed = image("never")
    odd = Image(json.dumps(json.loads(pushed.body) | {"mediaType": "x/y"}).encode(), pushed.media_type)
    assert (await edge.client.put("new/missing", "1.0", pushed)).status == 400
    assert (await edge.client.put("new/missing", "latest", pushed)).status == 400
    assert (await edge.client.put("new/odd", "1.0", odd)).status == 400
    await Projector(edge.store).sweep()
    await sweep_of(edge, lease=-1000).once()
    left = [key async for key in edge.store.client.scan_iter(match="immuproxy:{new/*")]
    assert left == []


async def test_h96_a_pass_over_idle_names_is_cheap(edge: RunningEdge) -> None:
    """Three thousand: a tenth of a second each for the projector, the sweep and the comparison."""
    names = [f"idle/{number}" for number in range(3000)]
    await edge.store.do(edge.store.client.sadd(keys.REPOSITORIES, *names))
    sweep, projector = sweep_of(edge), Projector(edge.store)

    async def spent() -> float:
        began = time.process_time()
        await sweep.once()
        await projector.sweep()
        return time.process_time() - began

    assert min([await spent() for _ in range(3)]) < 0.4
    found: Any = await edge.store.client.zcard(keys.COMPARISONS)
    assert found == len(names)
