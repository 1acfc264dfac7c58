"""What a push has sent before its tag was deleted may land after that, and revives nothing (H110, H111)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from immuproxy.edge import record
from immuproxy.ledger import keys
from immuproxy.ledger.content import Content
from immuproxy.ledger.model import Action, Event, Outcome, Step
from immuproxy.service.assembly import Choices
from tests.drift.test_sweep import AT_ONCE, sweep_of
from tests.support.between import Between, Request, between
from tests.support.conversation import Answer, RunningEdge, edge_over, image, sha256
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY, TAG = "team/app", "1.0"
ONE, TWO, THREE = image("one"), image("two"), image("three")
AGAIN = """
default: mutable
rules:
  - {name: again, tags: ["1.*"], policy: immutable, delete: allow, reuse: allow, overwrite: [{within: 15m}]}
"""
STOOD_STILL = 1.1
"""Seconds; a little more than a manifest may take for the sweep of these tests."""
Land = Callable[..., Awaitable[Answer]]


@dataclass
class Line:
    """The way of one proxy to the registry, which is slow with some PUTs: they arrive when `land` says so."""

    edge: RunningEdge
    relay: Between
    registry: RegistryServer
    slow: set[str] = field(default_factory=set)
    on_the_way: list[Land] = field(default_factory=list)
    deletes_tags: bool = True

    async def act(self, request: Request) -> Answer | None:
        if request.is_manifest_put and sha256(request.body) in self.slow:
            self.on_the_way.append(request.forward)
            return None
        if self.deletes_tags and request.method == "DELETE" and "sha256:" not in request.target:
            # As docker/distribution 3 does; what is installed here deletes no tag by its name.
            tags = self.registry.storage / f"docker/registry/v2/repositories/{REPOSITORY}/_manifests/tags"
            shutil.rmtree(tags / request.target.rpartition("/")[2])
            return Answer(202, request.headers.copy(), b"")
        return await request.forward()

    async def land(self) -> None:
        """Everything that is on the way arrives."""
        for forward in self.on_the_way:
            assert (await forward()).status == 201
        self.on_the_way.clear()


@asynccontextmanager
async def line_over(registry: RegistryServer, redis: RedisServer, manifest_timeout: float = 5.0) -> AsyncIterator[Line]:
    choices = Choices(manifest_timeout=manifest_timeout)
    async with (
        between(registry.url) as relay,
        edge_over(relay.url, redis.url, rules=AGAIN, choices=choices) as edge,
    ):
        line = Line(edge, relay, registry)
        relay.act = line.act
        for pushed in (ONE, TWO, THREE):
            await edge.client.blobs(REPOSITORY, pushed)
        yield line


@pytest.fixture
async def line(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[Line]:
    async with line_over(registry, redis_server) as opened:
        yield opened


@pytest.fixture
async def other(line: Line, registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    """Another proxy, whose way to the registry is quick."""
    async with edge_over(registry.url, redis_server.url, rules=AGAIN) as edge:
        yield edge


async def delete(edge: RunningEdge, reference: str) -> int:
    return (await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{reference}")).status


async def told(edge: RunningEdge) -> list[tuple[Action, Outcome, str]]:
    return [(event.action, event.outcome, event.digest) for event in await edge.events(REPOSITORY)]


async def overwritten_late(line: Line, other: RunningEdge) -> None:
    """ONE is deleted while an overwrite of it with TWO is on the way, which lands then."""
    assert (await line.edge.client.put(REPOSITORY, TAG, ONE)).status == 201
    line.slow = {TWO.digest}
    assert (await line.edge.client.put(REPOSITORY, TAG, TWO)).status == 503
    assert await delete(other, ONE.digest) == 202
    await line.land()
    assert (await other.direct.pull(REPOSITORY, TAG)).digest == TWO.digest


async def test_h110_an_overwrite_that_lands_after_the_delete_revives_nothing(line: Line, other: RunningEdge) -> None:
    await overwritten_late(line, other)
    for edge in (other, line.edge):
        assert (await edge.client.pull(REPOSITORY, TAG)).status == 404
        assert (await edge.client.pull(REPOSITORY, TAG, method="HEAD")).status == 404
        await sweep_of(edge, quarantine=600).once()
    assert Action.ADOPT not in {action for action, _, _ in await told(other)}
    line.slow = set()
    assert (await line.edge.client.put(REPOSITORY, TAG, THREE)).status == 201
    assert (await other.client.pull(REPOSITORY, TAG)).digest == THREE.digest
    last = (await other.events(REPOSITORY))[-1]
    assert (last.outcome, last.digest, last.previous_digest) == (Outcome.CREATED, THREE.digest, "")


async def sent_twice(line: Line) -> None:
    """A push of ONE whose first PUT is on the way; the second has arrived, so the tag holds the content."""
    slow = True

    async def act(request: Request) -> Answer | None:
        nonlocal slow
        line.slow = {ONE.digest} if slow else set()
        slow = slow and not request.is_manifest_put
        return await line.act(request)

    line.relay.act = act
    assert (await line.edge.client.put(REPOSITORY, TAG, ONE)).status == 201
    assert len(line.on_the_way) == 1


async def test_h110_nor_does_the_first_of_two_that_a_push_had_to_send(line: Line, other: RunningEdge) -> None:
    await sent_twice(line)
    assert await delete(other, ONE.digest) == 202
    await line.land()
    assert (await other.direct.pull(REPOSITORY, TAG)).digest == ONE.digest
    assert (await other.client.pull(REPOSITORY, TAG)).status == 404
    assert (await other.client.put(REPOSITORY, TAG, TWO)).status == 201
    assert (await other.client.pull(REPOSITORY, TAG)).digest == TWO.digest


async def test_h110_also_where_it_was_overwritten_before_the_delete(line: Line, other: RunningEdge) -> None:
    await sent_twice(line)
    assert (await other.client.put(REPOSITORY, TAG, TWO)).status == 201
    assert await delete(other, TWO.digest) == 202
    await line.land()
    assert (await other.direct.pull(REPOSITORY, TAG)).digest == ONE.digest
    assert (await other.client.pull(REPOSITORY, TAG)).status == 404


async def test_h110_nor_does_a_push_that_was_given_up_for_what_came_by_another_way(
    line: Line, other: RunningEdge
) -> None:
    line.slow = {TWO.digest}
    assert (await line.edge.client.put(REPOSITORY, TAG, TWO)).status == 503
    await other.direct.put(REPOSITORY, TAG, ONE)
    await sweep_of(other, lease=AT_ONCE, quarantine=600).once()
    assert (await other.client.pull(REPOSITORY, TAG)).digest == ONE.digest
    assert await delete(other, ONE.digest) == 202
    await line.land()
    assert (await other.direct.pull(REPOSITORY, TAG)).digest == TWO.digest
    assert (await other.client.pull(REPOSITORY, TAG)).status == 404


async def test_h110_a_push_while_the_tag_was_free_to_move_is_on_purpose_too(line: Line, other: RunningEdge) -> None:
    await overwritten_late(line, other)
    other.use_rules("default: mutable")
    assert (await other.client.put(REPOSITORY, TAG, TWO)).status == 201
    other.use_rules(AGAIN)
    assert (await other.client.pull(REPOSITORY, TAG)).digest == TWO.digest


async def test_h110_what_is_pushed_again_on_purpose_stands(line: Line, other: RunningEdge) -> None:
    """The very content that has landed late: the tag holds it from that push on, and nobody takes it away."""
    await overwritten_late(line, other)
    assert (await other.client.put(REPOSITORY, TAG, TWO)).status == 201
    assert (await other.client.pull(REPOSITORY, TAG)).digest == TWO.digest
    await due(other)
    await sweep_of(other).once()
    assert (await other.client.pull(REPOSITORY, TAG)).digest == TWO.digest
    last = (await other.events(REPOSITORY))[-1]
    assert (last.action, last.outcome, last.digest) == (Action.PUSH, Outcome.CREATED, TWO.digest)


async def test_h110_what_came_by_another_way_is_adopted_all_the_same(line: Line, other: RunningEdge) -> None:
    await overwritten_late(line, other)
    await other.direct.put(REPOSITORY, TAG, THREE)
    assert (await other.client.pull(REPOSITORY, TAG)).digest == THREE.digest
    assert (await told(other))[-1] == (Action.ADOPT, Outcome.ADOPTED, THREE.digest)
    assert (await other.client.put(REPOSITORY, TAG, ONE)).status == 409


async def test_h110_an_overwrite_that_lands_late_is_not_taken_for_what_a_stale_claim_waits_for(
    line: Line, other: RunningEdge
) -> None:
    """A push of THREE stopped after its claim was armed; TWO, from before the delete, is what the upstream shows."""
    await overwritten_late(line, other)
    line.slow = {THREE.digest}
    assert (await line.edge.client.put(REPOSITORY, TAG, THREE)).status == 503
    assert (await other.client.pull(REPOSITORY, TAG)).status == 404
    await sweep_of(other, quarantine=600).once()
    assert (await other.client.pull(REPOSITORY, TAG)).status == 404
    await line.land()
    assert (await other.client.pull(REPOSITORY, TAG)).digest == THREE.digest


async def test_h110_nor_does_who_has_seen_it_before_the_delete_and_adopts_it_after_that(
    line: Line, other: RunningEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    await other.direct.put(REPOSITORY, TAG, ONE)
    register: Any = line.edge.parts.register
    real = register.adopt

    async def after_the_delete(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(register, "adopt", real)
        assert await delete(other, ONE.digest) == 202
        return await real(*arguments, **named)

    monkeypatch.setattr(register, "adopt", after_the_delete)
    assert (await line.edge.client.pull(REPOSITORY, TAG)).status == 404
    assert (await told(other))[-1] == (Action.DELETE_MANIFEST, Outcome.DELETED, ONE.digest)
    assert (await other.client.put(REPOSITORY, TAG, TWO)).status == 201


# --- afterwards


async def due(edge: RunningEdge) -> None:
    """Time passes: what is on the way can land no more."""
    client: Any = edge.store.client
    for put in await client.zrange(keys.late(REPOSITORY), 0, -1):
        await client.zadd(keys.late(REPOSITORY), {put: 1})


async def is_known(edge: RunningEdge) -> bool:
    return bool(await edge.store.do(edge.store.client.exists(keys.late(REPOSITORY))))


async def of_the_tag(edge: RunningEdge) -> list[Event]:
    return [event for event in await edge.events(REPOSITORY) if event.action in {Action.DRIFT, Action.REPAIR}]


async def test_h111_the_upstreams_tag_is_removed_and_that_is_told(line: Line, other: RunningEdge) -> None:
    await overwritten_late(line, other)
    await sweep_of(line.edge).once()
    assert (await other.direct.pull(REPOSITORY, TAG)).digest == TWO.digest  # more of it may be on the way
    assert await of_the_tag(other) == []
    await due(other)
    await sweep_of(line.edge).once()
    assert (await other.direct.pull(REPOSITORY, TAG)).status == 404
    assert (await other.direct.pull(REPOSITORY, TWO.digest)).status == 200
    found, healed = await of_the_tag(other)
    assert (found.action, found.outcome, found.tag, found.digest) == (Action.DRIFT, Outcome.FOUND, TAG, TWO.digest)
    assert found.reason == "a push from before the tag was deleted has arrived since; the tag stays deleted"
    assert (healed.action, healed.outcome, healed.digest) == (Action.REPAIR, Outcome.HEALED, TWO.digest)
    assert not await is_known(other)
    await other.direct.put(REPOSITORY, TAG, TWO)
    assert (await other.client.pull(REPOSITORY, TAG)).digest == TWO.digest  # by another way, so it is adopted


async def test_h111_what_a_registry_does_not_delete_is_left_and_told(line: Line, other: RunningEdge) -> None:
    line.deletes_tags = False
    await overwritten_late(line, other)
    await due(other)
    await sweep_of(line.edge).once()
    await sweep_of(line.edge).once()
    _, failed = await of_the_tag(other)
    assert (failed.outcome, failed.digest) == (Outcome.FAILED, TWO.digest)
    assert "the upstream goes on showing it: it answered 400 to the delete of the tag" in failed.reason
    assert (await other.client.pull(REPOSITORY, TAG)).status == 404
    assert (await other.client.put(REPOSITORY, "2.0", TWO)).status == 201
    assert await delete(other, TWO.digest) == 202
    await due(other)
    await sweep_of(other).once()
    assert not await is_known(other)


@pytest.mark.parametrize("tag", ["1.1", "latest"])
async def test_h111_what_another_tag_needs_is_left(line: Line, other: RunningEdge, tag: str) -> None:
    """Some registries take the manifest with the tag."""
    await overwritten_late(line, other)
    assert (await other.client.put(REPOSITORY, tag, TWO)).status == 201
    await due(other)
    await sweep_of(line.edge).once()
    assert ("DELETE", f"/v2/{REPOSITORY}/manifests/{TAG}") not in line.relay.asked
    assert (await of_the_tag(other))[-1].reason.endswith(
        "other tags need this content, and some registries delete it with the tag"
    )
    assert (await other.client.pull(REPOSITORY, TAG)).status == 404
    assert (await other.client.pull(REPOSITORY, tag)).digest == TWO.digest


async def test_h111_a_push_under_way_is_not_disturbed(line: Line, other: RunningEdge) -> None:
    await overwritten_late(line, other)
    line.slow = {THREE.digest}
    assert (await line.edge.client.put(REPOSITORY, TAG, THREE)).status == 503
    await due(other)
    await sweep_of(line.edge).late()
    assert ("DELETE", f"/v2/{REPOSITORY}/manifests/{TAG}") not in line.relay.asked
    await line.land()
    assert (await other.client.pull(REPOSITORY, TAG)).digest == THREE.digest


async def test_h111_nor_is_a_push_of_that_very_content(line: Line, other: RunningEdge) -> None:
    """Its claim has no living owner, for all that is known; he comes back."""
    await overwritten_late(line, other)
    register = other.parts.register
    content, draft = (
        Content(digest=TWO.digest, needs=frozenset()),
        record.own(Action.PUSH, Outcome.FAILED, REPOSITORY, tag=TAG),
    )
    await register.claim(REPOSITORY, TAG, content, token="owner", lease_ms=-1)
    await register.arm(REPOSITORY, TAG, content, token="owner", lease_ms=-1, draft=draft, closing=None)
    await due(other)
    await sweep_of(line.edge).late()
    reply = await register.commit(REPOSITORY, TAG, content, token="owner", event=draft, first=True)
    assert reply.step is Step.COMMITTED


async def test_h119_a_delete_of_it_that_lands_late_takes_no_newer_push(line: Line, other: RunningEdge) -> None:
    """The name stays the sweep's for as long as its delete may be on the way."""
    await overwritten_late(line, other)
    sent: list[Request] = []

    async def act(request: Request) -> Answer | None:
        if request.method != "DELETE":
            return await line.act(request)
        sent.append(request)
        return None

    line.relay.act = act
    await due(other)
    sweep = sweep_of(line.edge, lease=0.2, quarantine=1.0)
    while not sent:
        await asyncio.sleep(0.1)  # until it has seen that long pass
        await sweep.late()
    line.slow = set()
    pushing = asyncio.create_task(other.client.put(REPOSITORY, TAG, THREE))
    await asyncio.wait([pushing], timeout=0.6)
    await line.act(sent[0])
    assert (await pushing).status == 201
    assert (await other.direct.pull(REPOSITORY, TAG)).digest == THREE.digest


async def test_h119_a_proxy_that_stood_still_sends_no_delete(
    line: Line, other: RunningEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its claim has ended meanwhile, and the name is another's."""
    await overwritten_late(line, other)
    await due(other)
    register: Any = line.edge.parts.register
    real = register.pin_count

    async def after_a_while(*arguments: Any) -> Any:
        line.slow = set()
        assert (await other.client.put(REPOSITORY, TAG, TWO)).status == 201
        await asyncio.sleep(STOOD_STILL)
        return await real(*arguments) - 1

    monkeypatch.setattr(register, "pin_count", after_a_while)
    await sweep_of(line.edge, lease=0.2).late()
    assert (await other.direct.pull(REPOSITORY, TAG)).digest == TWO.digest


async def test_h119_what_was_pushed_again_after_the_copy_was_made_stays(
    registry: RegistryServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """The copy is put back while no proxy runs, so nobody is left who knew a newer ledger."""
    data = redis_server.directory / "appendonlydir"
    async with (
        line_over(registry, redis_server) as line,
        edge_over(registry.url, redis_server.url, rules=AGAIN) as edge,
    ):
        await overwritten_late(line, edge)
        shutil.copytree(data, tmp_path / "copy")
        assert (await edge.client.put(REPOSITORY, TAG, TWO)).status == 201
    redis_server.kill()
    shutil.rmtree(data)
    shutil.copytree(tmp_path / "copy", data)
    redis_server.start()
    async with line_over(registry, redis_server) as line:
        await due(line.edge)
        await sweep_of(line.edge).late()
        assert ("DELETE", f"/v2/{REPOSITORY}/manifests/{TAG}") not in line.relay.asked
        assert (await line.edge.client.pull(REPOSITORY, TAG)).digest == TWO.digest


async def test_h119_a_server_that_starts_anew_under_living_proxies_forgets_no_late_write(
    line: Line, other: RunningEdge, redis_server: RedisServer
) -> None:
    await overwritten_late(line, other)
    redis_server.restart()
    for edge in (line.edge, other):
        await edge.store.client.connection_pool.disconnect()  # type: ignore[union-attr]
        await edge.parts.epoch.beat()
    async with edge_over(line.relay.url, redis_server.url, rules=AGAIN) as young:
        assert (await young.client.pull(REPOSITORY, TAG)).status == 404
        await due(young)
        await sweep_of(young).late()
    assert ("DELETE", f"/v2/{REPOSITORY}/manifests/{TAG}") in line.relay.asked


async def test_h111_a_ledger_that_lost_something_takes_nothing_for_late(line: Line, other: RunningEdge) -> None:
    """What it does not know may have been pushed again on purpose, and answered 201."""
    await overwritten_late(line, other)
    for edge in (line.edge, other):
        await edge.parts.epoch.beat()
    client: Any = other.store.client
    await client.delete(keys.BEATS)
    await due(other)
    await sweep_of(line.edge).once()
    assert not await is_known(other)
    assert ("DELETE", f"/v2/{REPOSITORY}/manifests/{TAG}") not in line.relay.asked
    assert (await other.client.pull(REPOSITORY, TAG)).digest == TWO.digest


async def test_h111_readers_notice_that_loss_themselves(line: Line, other: RunningEdge) -> None:
    await overwritten_late(line, other)
    await other.parts.epoch.beat()
    client: Any = other.store.client
    await client.delete(keys.BEATS)
    assert (await other.client.pull(REPOSITORY, TAG)).digest == TWO.digest
