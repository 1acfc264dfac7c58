"""Proxies whose clocks are wrong, memories that are old, and what HEAD may say (H72, H73, H79)."""

from __future__ import annotations

import itertools
import time

import pytest

from immuproxy.edge import record
from immuproxy.ledger.content import Content
from immuproxy.ledger.model import Action, Outcome, State
from tests.support.conversation import Image, RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY = "team/app"
FRESH = "rules: [{name: fresh, policy: immutable, overwrite: [{within: 15m}]}]"
YEAR = 365 * 24 * 3600


@pytest.fixture(params=["a year behind", "a year ahead", "jumping"])
def wrong_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the machine, as every part of the proxy reads it; Redis keeps its own."""
    true = time.time_ns
    errors = {"a year behind": [-YEAR], "a year ahead": [YEAR], "jumping": [YEAR, -YEAR, 0]}[request.param]
    turn = itertools.cycle(errors)
    monkeypatch.setattr(time, "time_ns", lambda: true() + next(turn) * 10**9)
    monkeypatch.setattr(time, "time", lambda: time.time_ns() / 10**9)


@pytest.mark.usefixtures("wrong_clock")
async def test_h73_the_proxys_clock_decides_nothing(registry: RegistryServer, redis_server: RedisServer) -> None:
    async with (
        edge_over(registry.url, redis_server.url, rules=FRESH) as left,
        edge_over(registry.url, redis_server.url, rules=FRESH) as right,
    ):
        one, two, three = image("one"), image("two"), image("three")
        assert (await left.client.push(REPOSITORY, "1.0", one)).status == 201
        assert (await right.client.push(REPOSITORY, "1.0", two)).status == 201, "within 15 minutes by any true clock"
        for edge in (left, right):
            assert (await edge.client.pull(REPOSITORY, "1.0")).digest == two.digest
            edge.use_rules("default: immutable")
        assert (await left.client.push(REPOSITORY, "1.0", three)).status == 409
        now = await left.parts.register.now_ms()
        events = await left.events(REPOSITORY)
        assert [event.outcome for event in events] == [Outcome.CREATED, Outcome.OVERWRITTEN, Outcome.REFUSED]
        assert all(abs(now - event.time) < 60_000 for event in events)
        found = await left.parts.register.read(REPOSITORY, "1.0")
        assert found.committed is not None
        assert abs(now - found.committed.since) < 60_000


@pytest.mark.usefixtures("wrong_clock")
async def test_h73_a_lease_ends_by_the_ledgers_clock(edge: RunningEdge) -> None:
    ours, other = image("ours"), image("other")
    await edge.direct.blobs(REPOSITORY, other)
    await leave(edge, ours, State.CLAIMED, lease_ms=1500)
    began = time.monotonic()
    assert (await edge.client.put(REPOSITORY, "1.0", other)).status == 201
    assert 1.0 < time.monotonic() - began < 10


async def test_h72_what_a_proxy_remembers_is_no_answer_while_redis_is_there(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    async with (
        edge_over(registry.url, redis_server.url, rules=FRESH) as left,
        edge_over(registry.url, redis_server.url, rules=FRESH) as right,
    ):
        one, two = image("one"), image("two")
        await left.client.push(REPOSITORY, "1.0", one)
        for _ in range(3):
            assert (await left.client.pull(REPOSITORY, "1.0")).digest == one.digest
            assert (await left.client.pull(REPOSITORY, "2.0")).status == 404
        assert (await right.client.push(REPOSITORY, "1.0", two)).status == 201
        assert (await right.client.push(REPOSITORY, "2.0", two)).status == 201
        for tag in ("1.0", "2.0"):
            assert (await left.client.pull(REPOSITORY, tag)).digest == two.digest


async def leave(edge: RunningEdge, pushed: Image, state: State, *, lease_ms: int = 60_000) -> None:
    """The claim of a push that has not ended."""
    content = Content(digest=pushed.digest, needs=frozenset({pushed.digest}))
    register = edge.parts.register
    await register.claim(REPOSITORY, "1.0", content, token="theirs", lease_ms=lease_ms)
    if state is State.ARMED:
        draft = record.own(Action.PUSH, Outcome.FAILED, REPOSITORY, tag="1.0", digest=pushed.digest)
        await register.arm(REPOSITORY, "1.0", content, token="theirs", lease_ms=lease_ms, draft=draft, closing=None)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("state", [State.CLAIMED, State.ARMED])
async def test_h79_a_tag_that_is_only_claimed_is_404(edge: RunningEdge, state: State, method: str) -> None:
    """containerd pushes after 404, skips the push after 200 with its digest, and gives up after anything else."""
    await leave(edge, image("ours"), state)
    assert (await edge.client.pull(REPOSITORY, "1.0", method=method)).status == 404


@pytest.mark.parametrize("lease_ms", [60_000, 0])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_h79_what_shows_under_anothers_armed_claim_is_404(edge: RunningEdge, method: str, lease_ms: int) -> None:
    """Also when its owner is gone: the next pusher or the sweep decides, not whoever happens to look."""
    await leave(edge, image("ours"), State.ARMED, lease_ms=lease_ms)
    await edge.direct.push(REPOSITORY, "1.0", image("other"))
    assert (await edge.client.pull(REPOSITORY, "1.0", method=method)).status == 404
    found = await edge.parts.register.read(REPOSITORY, "1.0")
    assert (found.committed, found.claim is None) == (None, False)


async def test_h79_head_is_200_only_for_what_is_committed_by_then(edge: RunningEdge) -> None:
    ours = image("ours")
    await edge.direct.blobs(REPOSITORY, ours)
    await leave(edge, ours, State.ARMED)
    assert (await edge.client.pull(REPOSITORY, "1.0", method="HEAD")).status == 404
    await edge.direct.put(REPOSITORY, "1.0", ours)
    head = await edge.client.pull(REPOSITORY, "1.0", method="HEAD")
    assert (head.status, head.digest, head.headers["Content-Length"]) == (200, ours.digest, str(len(ours.body)))
    found = await edge.parts.register.read(REPOSITORY, "1.0")
    assert found.committed is not None
    assert found.committed.digest == ours.digest


async def test_h79_head_of_what_the_upstream_lost_is_still_200(edge: RunningEdge) -> None:
    ours = image("ours")
    await edge.client.push(REPOSITORY, "1.0", ours)
    await edge.direct.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{ours.digest}")
    head = await edge.client.pull(REPOSITORY, "1.0", method="HEAD")
    assert (head.status, head.digest, head.headers["Content-Length"]) == (200, ours.digest, str(len(ours.body)))
