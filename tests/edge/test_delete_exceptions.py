"""A temporary exception allows one delete that the rules would refuse; it is decided in the delete's own step."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from multidict import CIMultiDict

from immuproxy.allow.exceptions import Allows, Exemption
from immuproxy.edge.answers import API_VERSION
from immuproxy.ledger.ids import new_event_id
from immuproxy.ledger.model import Event, Outcome
from tests.edge.test_exceptions import GRANT
from tests.support.between import Act, Request, between
from tests.support.conversation import Answer, Image, RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer

ONE, TWO = image("one"), image("two")


def untagging(registry: RegistryServer) -> Act:
    """Deletes of tags as version 3 of the registry does them: the tag goes, the manifest stays.  Version 2 says 400."""

    async def act(request: Request) -> Answer:
        reference = request.target.rpartition("/")[2]
        if request.method != "DELETE" or ":" in reference:
            return await request.forward()
        tags = registry.storage / "docker/registry/v2/repositories/team/app/_manifests/tags"
        if not (tags / reference).exists():
            return Answer(404, CIMultiDict(), b"{}")
        shutil.rmtree(tags / reference)
        return Answer(202, CIMultiDict([API_VERSION]), b"")

    return act


@pytest.fixture
async def edge(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    async with between(registry.url, untagging(registry)) as upstream, edge_over(upstream.url, redis_server.url) as run:
        yield run


async def allow(
    edge: RunningEdge, tag: str = "1.0", *, allows: Allows = Allows.DELETE, digest: str = "", lasts_ms: int = 60_000
) -> Event:
    granted = replace(GRANT, id=new_event_id(), tag=tag, digest=digest)
    await edge.parts.exceptions.grant(granted, lasts_ms=lasts_ms, allows=allows)
    return granted


async def delete(edge: RunningEdge, reference: str) -> Answer:
    return await edge.client.ask("DELETE", f"/v2/team/app/manifests/{reference}")


async def last(edge: RunningEdge) -> Event:
    return (await edge.events("team/app"))[-1]


async def holds(edge: RunningEdge, tag: str, pushed: Image) -> bool:
    return (await edge.client.pull("team/app", tag)).digest == pushed.digest


@pytest.mark.parametrize("reference", ["1.0", ONE.digest], ids=["by tag", "by digest"])
async def test_the_delete_goes_through_is_told_and_leaves_the_name_taken(edge: RunningEdge, reference: str) -> None:
    await edge.client.push("team/app", "1.0", ONE)
    assert (await delete(edge, reference)).status == 405
    granted = await allow(edge)
    assert (await delete(edge, reference)).status == 202
    event = await last(edge)
    assert event.outcome is Outcome.DELETED
    assert event.reason.endswith(f"a temporary exception allows it: event {granted.id}, granted by ops: {GRANT.reason}")
    assert (await edge.client.pull("team/app", "1.0")).status == 404
    refused = await edge.client.push("team/app", "1.0", ONE)
    assert (refused.status, "does not let a name be used again" in refused.error["message"]) == (409, True)


async def test_the_grant_says_in_the_audit_what_it_allows(edge: RunningEdge) -> None:
    await allow(edge)
    assert (await last(edge)).reason == f"may be deleted: {GRANT.reason}"
    found = await edge.parts.exceptions.of("team/app", "1.0")
    assert found is not None
    assert (found.allows, found.reason) == (Allows.DELETE, GRANT.reason)


async def test_a_frozen_tag_too(edge: RunningEdge) -> None:
    await edge.client.push("team/app", "1.0", ONE)
    edge.use_rules("default: frozen")
    await allow(edge)
    assert (await delete(edge, "1.0")).status == 202


async def test_what_allows_the_one_does_not_allow_the_other(edge: RunningEdge) -> None:
    await edge.client.push("team/app", "1.0", ONE)
    await allow(edge)
    assert (await edge.client.push("team/app", "1.0", TWO)).status == 409
    await allow(edge, allows=Allows.OVERWRITE)
    for reference in ("1.0", ONE.digest):
        assert (await delete(edge, reference)).status == 405
    assert await holds(edge, "1.0", ONE)


@pytest.mark.parametrize("reference", ["1.0", ONE.digest], ids=["by tag", "by digest"])
async def test_only_of_the_digest_that_is_named_and_only_in_time(edge: RunningEdge, reference: str) -> None:
    await edge.client.push("team/app", "1.0", ONE)
    await allow(edge, digest=TWO.digest)
    assert (await delete(edge, reference)).status == 405
    await allow(edge, digest=ONE.digest, lasts_ms=0)
    assert (await delete(edge, reference)).status == 405
    await allow(edge, digest=ONE.digest)
    assert (await delete(edge, reference)).status == 202


async def test_a_digest_goes_only_when_each_of_its_tags_may(edge: RunningEdge) -> None:
    for tag in ("1.0", "2.0", "latest"):
        await edge.client.push("team/app", tag, ONE)
    first = await allow(edge, "1.0")
    assert (await delete(edge, ONE.digest)).status == 405
    second = await allow(edge, "2.0")
    assert (await delete(edge, ONE.digest)).status == 202
    reason = (await last(edge)).reason
    assert all(granted.id in reason for granted in (first, second))
    for tag in ("1.0", "2.0"):
        found = await edge.parts.register.read("team/app", tag)
        assert (found.committed, found.tombstone is not None) == (None, True)


@pytest.mark.parametrize(
    ("reference", "change"),
    [
        *(("1.0", change) for change in ("ended", "replaced", "overwritten", "too late")),
        *((ONE.digest, change) for change in ("ended", "replaced", "too late")),
    ],
)
async def test_it_is_decided_in_the_step_of_the_delete(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch, reference: str, change: str
) -> None:
    """What was true when the delete was judged need not be true when it is let go."""
    await edge.client.push("team/app", "1.0", ONE)
    await allow(edge, lasts_ms=1000 if change == "too late" else 60_000)
    granted = await edge.parts.exceptions.of("team/app", "1.0")
    assert granted is not None
    register, begun = edge.parts.register, []
    real = register.begin_delete

    async def after_a_change(*args: Any, **values: Any) -> Any:
        begun.append(args)
        if len(begun) == 1:
            await _change(edge, granted, change)
        return await real(*args, **values)

    monkeypatch.setattr(register, "begin_delete", after_a_change)
    answer = await delete(edge, reference)
    assert (answer.status, len(begun)) == (405, 1)
    assert await holds(edge, "1.0", TWO if change == "overwritten" else ONE)
    assert (await edge.direct.pull("team/app", ONE.digest)).status == 200
    assert (await last(edge)).outcome is Outcome.REFUSED


async def _change(edge: RunningEdge, granted: Exemption, change: str) -> None:
    """Something that another request does between the verdict and the step."""
    if change == "ended":
        ending = replace(GRANT, id=new_event_id(), outcome=Outcome.ENDED)
        assert await edge.parts.exceptions.end(granted, ending)
    elif change == "replaced":
        await allow(edge, digest=TWO.digest)
    elif change == "overwritten":
        await allow(edge, allows=Allows.OVERWRITE)
        assert (await edge.client.push("team/app", "1.0", TWO)).status == 201
    else:
        while await edge.parts.register.now_ms() < granted.ends:
            await asyncio.sleep(0.01)


async def test_what_no_longer_holds_what_was_judged_is_judged_anew(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tag may still be deleted, and holds something else than the exception was looked at for."""
    edge.use_rules("rules: [{name: in, tags: ['1.*'], policy: immutable, overwrite: [{within: 1h}]}]")
    await edge.client.push("team/app", "1.0", ONE)
    await allow(edge)
    register, begun = edge.parts.register, []
    real = register.begin_delete

    async def after_an_overwrite(*args: Any, **values: Any) -> Any:
        begun.append(args)
        if len(begun) == 1:
            assert (await edge.client.push("team/app", "1.0", TWO)).status == 201
        return await real(*args, **values)

    monkeypatch.setattr(register, "begin_delete", after_an_overwrite)
    assert (await delete(edge, "1.0")).status == 202
    assert (len(begun), (await last(edge)).digest) == (2, TWO.digest)


async def test_without_redis_nobody_who_saw_it_deleted_gives_it_out(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    async with (
        between(registry.url, untagging(registry)) as upstream,
        edge_over(upstream.url, redis_server.url) as left,
        edge_over(upstream.url, redis_server.url) as right,
    ):
        await left.client.push("team/app", "1.0", ONE)
        assert await holds(left, "1.0", ONE)
        await allow(right)
        assert (await delete(right, "1.0")).status == 202
        assert (await left.client.pull("team/app", "1.0")).status == 404
        redis_server.kill()
        assert (await left.client.pull("team/app", "1.0")).status == 404
