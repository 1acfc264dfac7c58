"""Reads of protected tags while Redis is away: what is told is right, or is not told."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace

import pytest

from immuproxy.edge.memory import Memory
from immuproxy.edge.push.attempt import Limits
from immuproxy.ledger.ids import new_event_id
from immuproxy.ledger.model import Action, Committed, Event, Outcome, TagRecord
from immuproxy.service.assembly import Choices
from tests.support.conversation import RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer

ONE_HOUR = "default: immutable\nrules: [{name: fresh, tags: ['*'], policy: immutable, overwrite: [{within: 1h}]}]"


async def test_without_redis_what_is_known_stays_known(
    edge: RunningEdge, registry: RegistryServer, redis_server: RedisServer
) -> None:
    ours, other = image("ours"), image("other")
    for tag in ("1.0", "2.0"):
        await edge.client.push("team/app", tag, ours)
        await edge.client.pull("team/app", tag)
    await edge.direct.push("team/app", "unknown", other)
    shutil.rmtree(registry.storage / "docker/registry/v2/repositories/team/app/_manifests/tags/2.0")
    redis_server.kill()
    assert (await edge.client.pull("team/app", "1.0")).body == ours.body
    assert (await edge.client.pull("team/app", "2.0")).body == ours.body
    assert (await edge.client.pull("team/app", "unknown")).digest == other.digest


async def test_without_redis_a_tag_that_the_registry_shows_otherwise_is_not_told(
    edge: RunningEdge, redis_server: RedisServer
) -> None:
    await edge.client.push("team/app", "1.0", image("ours"))
    await edge.client.pull("team/app", "1.0")
    await edge.direct.push("team/app", "1.0", image("other"))
    redis_server.kill()
    answer = await edge.client.pull("team/app", "1.0")
    assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")


async def test_without_redis_nothing_is_said_of_what_another_proxy_may_have_overwritten(
    registry: RegistryServer, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = Limits(put=5.0, lease=21.0, quarantine=0.1)
    monkeypatch.setattr(Limits, "of", classmethod(lambda _cls, _put: short))
    async with (
        edge_over(registry.url, redis_server.url, rules=ONE_HOUR) as left,
        edge_over(registry.url, redis_server.url, rules=ONE_HOUR) as right,
    ):
        first = image("one")
        for tag in ("1.0", "2.0"):
            await left.client.push("team/app", tag, first)
            assert (await left.client.pull("team/app", tag)).digest == first.digest
        assert (await right.client.push("team/app", "1.0", image("two"))).status == 201
        await asyncio.sleep(0.2)  # longer than the quarantine
        redis_server.kill()
        assert (await left.client.pull("team/app", "1.0")).status == 503
        assert (await left.client.pull("team/app", "2.0")).digest == first.digest


async def test_without_redis_nothing_is_said_of_what_an_exception_let_another_proxy_overwrite(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    async with edge_over(registry.url, redis_server.url) as left, edge_over(registry.url, redis_server.url) as right:
        await left.client.push("team/app", "1.0", image("one"))
        assert (await left.client.pull("team/app", "1.0")).status == 200
        granted = Event(id=new_event_id(), action=Action.EXCEPTION, outcome=Outcome.GRANTED)
        await right.parts.exceptions.grant(replace(granted, repository="team/app", tag="1.0"), lasts_ms=60_000)
        assert (await right.client.push("team/app", "1.0", image("two"))).status == 201
        redis_server.kill()
        assert (await left.client.pull("team/app", "1.0")).status == 503


@pytest.mark.parametrize("pushed", [["one"], ["one", "two"]])
async def test_h62_without_redis_a_late_write_of_older_content_is_not_taken_for_what_the_tag_holds(
    registry: RegistryServer, redis_server: RedisServer, pushed: list[str]
) -> None:
    async with (
        edge_over(registry.url, redis_server.url, rules=ONE_HOUR) as left,
        edge_over(registry.url, redis_server.url, rules=ONE_HOUR) as right,
    ):
        for name in pushed:
            await left.client.push("team/app", "1.0", image(name))
        late = image(pushed[-1])
        assert (await left.client.pull("team/app", "1.0")).digest == late.digest
        assert (await right.client.push("team/app", "1.0", image("three"))).status == 201
        await right.direct.push("team/app", "1.0", late)  # as a PUT that the network held up would
        redis_server.kill()
        assert (await left.client.pull("team/app", "1.0")).status == 503


def test_h62_what_a_tag_holds_is_settled_after_the_quarantine() -> None:
    times = [0.0]
    memory = Memory(lambda: times[-1], quarantine=300.0)
    record = TagRecord("team/app", "1.0")
    for now, digest, settled in (
        (0.0, "sha256:one", False),
        (300.0, "sha256:one", False),
        (300.5, "sha256:one", True),
        (301.0, "sha256:two", False),
        (601.5, "sha256:two", True),
    ):
        times.append(now)
        memory.keep(record, Committed(digest, 1 + (digest == "sha256:two"), since=0, first=0))
        assert memory.is_settled("team/app", "1.0") is settled


def test_the_memory_has_room_for_so_many_tags_and_forgets_the_oldest() -> None:
    memory = Memory(lambda: 0.0, quarantine=1.0, most=2)
    for tag in ("1.0", "2.0", "1.0", "3.0"):
        memory.keep(TagRecord("team/app", tag), Committed("sha256:one", 1, since=0, first=0))
    held = [memory.of("team/app", tag) is not None for tag in ("1.0", "2.0", "3.0")]
    assert held == [False, True, True]


async def test_without_redis_unknown_tags_can_be_refused(registry: RegistryServer, redis_server: RedisServer) -> None:
    choices = Choices(manifest_timeout=5.0, pass_unknown=False)
    async with edge_over(registry.url, redis_server.url, choices=choices) as edge:
        await edge.direct.push("team/app", "1.0", image("one"))
        redis_server.kill()
        answer = await edge.client.pull("team/app", "1.0")
        assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
