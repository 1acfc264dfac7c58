"""One push that sets several tags, ``?tag=`` of the distribution specification: all of them or none (H11)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from multidict import CIMultiDict

from immuproxy.edge.push.attempt import Limits
from immuproxy.edge.upstream import Upstream
from immuproxy.ledger.model import Outcome, Reply, Step
from immuproxy.store.redis import LedgerUnavailableError
from tests.support.between import Request, between
from tests.support.conversation import Answer, Image, RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer


async def push(edge: RunningEdge, pushed: Image, query: str) -> Answer:
    path = f"/v2/team/app/manifests/{pushed.digest}?{query}"
    return await edge.client.ask("PUT", path, pushed.body, Content_Type=pushed.media_type)


async def test_h11_all_tags_are_set_and_named_in_the_answer(edge: RunningEdge) -> None:
    pushed = image("one")
    await edge.client.blobs("team/app", pushed)
    answer = await push(edge, pushed, "tag=1.0&%74ag=1.1&tag=latest&tag=1.0&other=x")
    assert answer.status == 201
    assert sorted(answer.headers.getall("OCI-Tag")) == ["1.0", "1.1", "latest"]
    for tag in ("1.0", "1.1", "latest"):
        assert (await edge.direct.pull("team/app", tag)).digest == pushed.digest
    assert {event.tag for event in await edge.events("team/app")} == {"1.0", "1.1", "latest"}


async def test_h11_one_refused_tag_refuses_them_all(edge: RunningEdge) -> None:
    held, pushed = image("held"), image("new")
    await edge.client.push("team/app", "1.1", held)
    await edge.client.blobs("team/app", pushed)
    answer = await push(edge, pushed, "tag=1.0&tag=1.1&tag=1.2&tag=latest")
    assert answer.status == 409
    assert answer.error["detail"]["tag"] == "1.1"
    for tag in ("1.0", "1.2", "latest"):
        assert (await edge.direct.pull("team/app", tag)).status == 404
        record = await edge.parts.register.read("team/app", tag)
        assert (record.committed, record.claim) == (None, None)


async def test_h11_two_such_pushes_never_wait_for_each_other(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    async with (
        edge_over(registry.url, redis_server.url) as left,
        edge_over(registry.url, redis_server.url) as right,
    ):
        one, two = image("one"), image("two")
        for pushed in (one, two):
            await left.client.blobs("team/app", pushed)
        answers = await asyncio.gather(
            push(left, one, "tag=a&tag=b&tag=c"),
            push(right, two, "tag=c&tag=b&tag=a"),
            push(right, one, "tag=b&tag=a&tag=c"),
        )
        won = [answer.digest for answer in answers if answer.status == 201]
        assert len(set(won)) == 1
        for tag in "abc":
            assert (await left.client.pull("team/app", tag)).digest == won[0]


async def test_h11_tags_are_claimed_in_their_order_wherever_they_stand(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else two such pushes could each hold what the other waits for."""
    pushed, claimed = image("one"), list[str]()
    await edge.client.blobs("team/app", pushed)
    real = edge.parts.register.claim

    async def spy(repository: str, tag: str, *arguments: Any, **named: Any) -> Reply:
        claimed.append(tag)
        return await real(repository, tag, *arguments, **named)

    monkeypatch.setattr(edge.parts.register, "claim", spy)
    path = "/v2/team/app/manifests/b?tag=c&tag=a"
    answer = await edge.client.ask("PUT", path, pushed.body, Content_Type=pushed.media_type)
    assert answer.status == 201
    assert claimed == ["a", "b", "c"]


async def test_h11_a_proxy_that_stands_still_between_two_tags_still_sets_both(
    registry: RegistryServer, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sleeps through its lease when the first tag is set; the second must not go to other content meanwhile."""
    short = Limits(put=0.5, lease=1.0, quarantine=30)
    monkeypatch.setattr(Limits, "of", classmethod(lambda _cls, _put: short))
    async with (
        edge_over(registry.url, redis_server.url) as sleeper,
        edge_over(registry.url, redis_server.url) as awake,
    ):
        ours, other, meanwhile = image("ours"), image("other"), list[int]()
        for pushed in (ours, other):
            await awake.client.blobs("team/app", pushed)
        real = Upstream.put_manifest

        async def sleepy(self: Upstream, repository: str, reference: str, *sent: Any, **named: Any) -> Any:
            answer = await real(self, repository, reference, *sent, **named)
            if reference == "a":
                await asyncio.sleep(1.2)  # longer than its lease, which Redis's clock ends
                meanwhile.append((await awake.client.put("team/app", "b", other)).status)
            return answer

        monkeypatch.setattr(Upstream, "put_manifest", sleepy)
        answer = await push(sleeper, ours, "tag=a&tag=b")
        assert (answer.status, meanwhile) == (201, [503])
        for tag in "ab":
            assert (await awake.client.pull("team/app", tag)).digest == ours.digest
        assert [event.outcome for event in await awake.events("team/app")] == [Outcome.CREATED] * 2


@pytest.mark.parametrize(("status", "kept"), [(400, False), (500, True)])
async def test_h11_what_was_armed_and_never_sent_is_given_back(
    registry: RegistryServer, redis_server: RedisServer, status: int, kept: bool
) -> None:
    async def fail_second(request: Request) -> Answer | None:
        if request.is_manifest_put and request.target.endswith("/b"):
            return Answer(status, CIMultiDict(), b"")
        return await request.forward()

    async with (
        between(registry.url, fail_second) as middle,
        edge_over(middle.url, redis_server.url) as edge,
    ):
        pushed, other = image("one"), image("other")
        for each in (pushed, other):
            await edge.direct.blobs("team/app", each)
        assert (await push(edge, pushed, "tag=a&tag=b&tag=c&tag=d")).status == (503 if kept else status)
        assert (await edge.client.pull("team/app", "a")).digest == pushed.digest
        states = [await edge.parts.register.read("team/app", tag) for tag in "bcd"]
        assert [found.claim is not None for found in states] == [kept, False, False]
        assert [event.tag for event in await edge.parts.register.intents("team/app")] == ["b"] * kept
        assert (await edge.client.put("team/app", "c", other)).status == 201


async def test_h11_nothing_is_sent_before_all_are_armed(edge: RunningEdge, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed = image("one")
    await edge.client.blobs("team/app", pushed)
    real = edge.parts.register.arm

    async def broken(repository: str, tag: str, *arguments: Any, **named: Any) -> Reply:
        if tag == "c":
            raise LedgerUnavailableError
        return await real(repository, tag, *arguments, **named)

    monkeypatch.setattr(edge.parts.register, "arm", broken)
    assert (await push(edge, pushed, "tag=a&tag=b&tag=c&tag=d")).status == 503
    for tag in "abcd":
        assert (await edge.direct.pull("team/app", tag)).status == 404
        assert (await edge.parts.register.read("team/app", tag)).claim is None
    assert await edge.parts.register.intents("team/app") == []


@pytest.mark.parametrize("step", ["arm", "commit"])
async def test_h11_a_tag_that_is_set_is_not_told_again_when_another_has_to_start_anew(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    held = image("one")
    await edge.client.push("team/app", "a", held)
    real, lost = getattr(edge.parts.register, step), list[str]()

    async def loses_c_once(repository: str, tag: str, *arguments: Any, **named: Any) -> Reply:
        if tag == "c" and not lost:
            lost.append(tag)
            record = await edge.parts.register.read(repository, tag)
            return Reply(step=Step.LOST, now=0, record=record)
        reply: Reply = await real(repository, tag, *arguments, **named)
        return reply

    monkeypatch.setattr(edge.parts.register, step, loses_c_once)
    answer = await push(edge, held, "tag=a&tag=b&tag=c")
    assert (answer.status, lost) == (201, ["c"])
    told = [(event.tag, event.outcome) for event in await edge.events("team/app")]
    assert told.count(("a", Outcome.UNCHANGED)) == 1
    assert [outcome for tag, outcome in told if tag == "b"] == [Outcome.CREATED]
    assert [outcome for tag, outcome in told if tag == "c"][:1] == [Outcome.CREATED]


async def test_h11_a_body_of_another_digest_is_refused(edge: RunningEdge) -> None:
    answer = await edge.client.ask(
        "PUT",
        f"/v2/team/app/manifests/{image('one').digest}?tag=1.0",
        image("two").body,
        Content_Type=image("two").media_type,
    )
    assert (answer.status, answer.error["code"]) == (400, "DIGEST_INVALID")


async def test_a_tag_beside_the_tag_in_the_path_is_set_too(edge: RunningEdge) -> None:
    pushed = image("one")
    await edge.client.blobs("team/app", pushed)
    answer = await edge.client.ask(
        "PUT", "/v2/team/app/manifests/1.0?tag=2.0", pushed.body, Content_Type=pushed.media_type
    )
    assert answer.status == 201
    assert [event.outcome for event in await edge.events("team/app")] == [Outcome.CREATED, Outcome.CREATED]
