"""An upstream that fails at the worst moment: what is known is answered, what is not known keeps the tag (H63)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from multidict import CIMultiDict

from immuproxy.ledger.model import Action, Outcome, State
from immuproxy.service.assembly import Choices
from tests.support.between import Act, Between, Request, between, pass_on
from tests.support.conversation import Answer, RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY = "team/app"
FAULT = Answer(500, CIMultiDict({"Content-Type": "text/plain"}), b"broken")


async def fail_before(request: Request) -> Answer | None:
    return FAULT if request.is_manifest_put else await request.forward()


async def fail_after(request: Request) -> Answer | None:
    answer = await request.forward()
    return FAULT if request.is_manifest_put else answer


async def hang_up_after(request: Request) -> Answer | None:
    answer = await request.forward()
    return None if request.is_manifest_put else answer


async def hang_up_before(request: Request) -> Answer | None:
    return None if request.is_manifest_put else await request.forward()


async def gateway_timeout_after(request: Request) -> Answer | None:
    answer = await request.forward()
    return Answer(504, CIMultiDict(), b"") if request.is_manifest_put else answer


@dataclass(frozen=True)
class Stage:
    edge: RunningEdge
    middle: Between

    def puts(self) -> int:
        """Pushes of the tag that were sent to the upstream."""
        return self.middle.asked.count(("PUT", f"/v2/{REPOSITORY}/manifests/1.0"))

    async def outcomes(self) -> list[Outcome]:
        return [event.outcome for event in await self.edge.events(REPOSITORY)]


@pytest.fixture
async def stage(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[Stage]:
    async with (
        between(registry.url) as middle,
        edge_over(middle.url, redis_server.url, choices=Choices(manifest_timeout=2.0)) as edge,
    ):
        for seed in ("ours", "other"):
            await edge.direct.blobs(REPOSITORY, image(seed))
        yield Stage(edge, middle)


@pytest.mark.parametrize("act", [fail_after, hang_up_after, gateway_timeout_after])
async def test_h63_what_was_stored_counts_however_the_upstream_answered(stage: Stage, act: Act) -> None:
    stage.middle.act = act
    answer = await stage.edge.client.put(REPOSITORY, "1.0", image("ours"))
    assert (answer.status, answer.digest) == (201, image("ours").digest)
    assert stage.puts() == 1
    assert await stage.outcomes() == [Outcome.CREATED]


@pytest.mark.parametrize("act", [fail_before, hang_up_before])
async def test_h63_what_never_arrives_is_sent_twice_then_answered_503_and_keeps_the_tag(stage: Stage, act: Act) -> None:
    stage.middle.act = act
    client = stage.edge.client
    answer = await client.put(REPOSITORY, "1.0", image("ours"))
    assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
    assert answer.headers["Retry-After"]
    assert stage.puts() == 2
    found = await stage.edge.parts.register.read(REPOSITORY, "1.0")
    assert found.claim is not None
    assert (found.claim.state, found.claim.digest) == (State.ARMED, image("ours").digest)
    stage.middle.act = pass_on
    assert (await client.pull(REPOSITORY, "1.0")).status == 404
    other = await client.put(REPOSITORY, "1.0", image("other"))
    assert other.status == 503, "the earlier push could still land"
    assert (await client.put(REPOSITORY, "1.0", image("ours"))).status == 201
    assert (await client.put(REPOSITORY, "1.0", image("other"))).status == 409
    assert await stage.outcomes() == [Outcome.UNKNOWN, Outcome.CREATED, Outcome.REFUSED]


async def test_h63_one_lost_push_is_sent_again(stage: Stage) -> None:
    failures = 1

    async def fail_once(request: Request) -> Answer | None:
        nonlocal failures
        if request.is_manifest_put and failures:
            failures -= 1
            return FAULT
        return await request.forward()

    stage.middle.act = fail_once
    assert (await stage.edge.client.put(REPOSITORY, "1.0", image("ours"))).status == 201
    assert stage.puts() == 2


@pytest.mark.parametrize(("reuse", "status"), [("never", 201), ("allow", 503)])
async def test_i10_a_push_that_others_finished_and_deleted_is_not_sent_again(
    stage: Stage, reuse: str, status: int
) -> None:
    """Its answer is lost; a reader finishes it, somebody deletes the tag, and only then its proxy looks."""
    stage.edge.use_rules(f"rules: [{{name: gone, tags: ['*'], policy: immutable, delete: allow, reuse: {reuse}}}]")
    ours, client = image("ours"), stage.edge.client
    deleted = list[int]()

    async def store_and_lose(request: Request) -> Answer | None:
        answer = await request.forward()
        if not request.is_manifest_put:
            return answer
        await client.pull(REPOSITORY, "1.0")
        deleted.append((await client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{ours.digest}")).status)
        return None

    stage.middle.act = store_and_lose
    answer = await client.put(REPOSITORY, "1.0", ours)
    assert (answer.status, deleted, stage.puts()) == (status, [202], 1)
    assert await stage.outcomes() == [Outcome.CREATED, Outcome.DELETED, Outcome.DELETED]  # of the tag, of its manifest
    assert (await client.pull(REPOSITORY, "1.0")).status == 404


async def test_h63_a_push_that_landed_unseen_is_finished_by_a_reader(stage: Stage) -> None:
    async def store_and_hide(request: Request) -> Answer | None:
        wants_tag = request.method == "GET" and request.target.endswith("/manifests/1.0")
        if wants_tag and stage.puts():
            return FAULT
        return await fail_after(request)

    stage.middle.act = store_and_hide
    assert (await stage.edge.client.put(REPOSITORY, "1.0", image("ours"))).status == 503
    assert await stage.outcomes() == []
    stage.middle.act = pass_on
    read = await stage.edge.client.pull(REPOSITORY, "1.0")
    assert (read.status, read.digest) == (200, image("ours").digest)
    assert await stage.outcomes() == [Outcome.CREATED]
    assert (await stage.edge.client.put(REPOSITORY, "1.0", image("other"))).status == 409


async def test_h63_a_refusal_of_the_upstream_gives_the_tag_back_at_once(stage: Stage) -> None:
    refusal = Answer(
        400, CIMultiDict({"Content-Type": "application/json"}), b'{"errors":[{"code":"TAG_INVALID","message":"no"}]}'
    )

    async def refuse(request: Request) -> Answer | None:
        return refusal if request.is_manifest_put else await request.forward()

    stage.middle.act = refuse
    answer = await stage.edge.client.put(REPOSITORY, "1.0", image("ours"))
    assert (answer.status, answer.body) == (400, refusal.body)
    assert stage.puts() == 1
    stage.middle.act = pass_on
    assert (await stage.edge.client.put(REPOSITORY, "1.0", image("other"))).status == 201


async def test_h63_a_refusal_of_the_second_try_says_nothing_of_the_first(stage: Stage) -> None:
    """The first is still on its way, and lands after its pusher has heard no."""
    held: list[Request] = []

    async def hold_up_then_refuse(request: Request) -> Answer | None:
        if not request.is_manifest_put:
            return await request.forward()
        held.append(request)
        return None if len(held) == 1 else Answer(401, CIMultiDict({"WWW-Authenticate": "Bearer realm=x"}), b"")

    stage.middle.act = hold_up_then_refuse
    answer = await stage.edge.client.put(REPOSITORY, "1.0", image("ours"))
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer realm=x")
    stage.middle.act = pass_on
    assert (await stage.edge.client.put(REPOSITORY, "1.0", image("other"))).status == 503
    await held[0].forward()
    assert (await stage.edge.client.put(REPOSITORY, "1.0", image("other"))).status == 409
    assert (await stage.edge.client.put(REPOSITORY, "1.0", image("ours"))).status == 201
    assert await stage.outcomes() == [Outcome.CREATED, Outcome.REFUSED, Outcome.UNCHANGED]


async def test_h63_a_refusal_of_a_push_that_took_over_says_nothing_of_the_first(stage: Stage) -> None:
    held: list[Request] = []

    async def hold_up_two_then_refuse(request: Request) -> Answer | None:
        if not request.is_manifest_put:
            return await request.forward()
        held.append(request)
        return None if len(held) <= 2 else Answer(401, CIMultiDict({"WWW-Authenticate": "Bearer realm=x"}), b"")

    stage.middle.act = hold_up_two_then_refuse
    assert (await stage.edge.client.put(REPOSITORY, "1.0", image("ours"))).status == 503
    assert (await stage.edge.client.put(REPOSITORY, "1.0", image("ours"))).status == 401
    stage.middle.act = pass_on
    assert (await stage.edge.client.put(REPOSITORY, "1.0", image("other"))).status == 503
    await held[0].forward()
    assert (await stage.edge.client.put(REPOSITORY, "1.0", image("other"))).status == 409


@pytest.mark.parametrize(("act", "status"), [(fail_after, 201), (hang_up_after, 201), (fail_before, 503)])
async def test_h63_a_tag_that_may_move_is_recorded_by_what_the_upstream_shows(
    stage: Stage, act: Act, status: int
) -> None:
    stage.middle.act = act
    answer = await stage.edge.client.put(REPOSITORY, "latest", image("ours"))
    assert answer.status == status
    assert await stage.outcomes() == ([Outcome.CREATED] if status == 201 else [])
    assert len(await stage.edge.parts.register.intents(REPOSITORY)) == (status == 503)


async def test_h63_a_delete_whose_outcome_is_unknown_keeps_pushes_of_that_content_waiting(stage: Stage) -> None:
    ours = image("ours")
    await stage.edge.direct.put(REPOSITORY, ours.digest, ours)

    async def delete_and_fail(request: Request) -> Answer | None:
        answer = await request.forward()
        return FAULT if request.method == "DELETE" and ours.digest in request.target else answer

    stage.middle.act = delete_and_fail
    answer = await stage.edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{ours.digest}")
    assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
    stage.middle.act = pass_on
    push = asyncio.create_task(stage.edge.client.put(REPOSITORY, "1.0", ours))
    await asyncio.sleep(0.2)  # nothing tells that it goes on waiting
    assert not push.done(), "the delete may still be on its way"
    mark = (await stage.edge.parts.register.intents(REPOSITORY))[0]
    assert mark.action is Action.DELETE_MANIFEST
    await stage.edge.parts.register.end_delete(REPOSITORY, ours.digest, mark)
    assert (await push).status == 201


async def test_h114_what_somebody_else_pushed_meanwhile_is_not_told_as_stored_by_us(
    stage: Stage, registry: RegistryServer, redis_server: RedisServer
) -> None:
    ours = image("ours")
    async with edge_over(registry.url, redis_server.url) as other:

        async def never_arrives(request: Request) -> Answer | None:
            if not request.is_manifest_put:
                return await request.forward()
            assert (await other.client.put(REPOSITORY, "latest", ours)).status == 201
            return None

        stage.middle.act = never_arrives
        assert (await stage.edge.client.put(REPOSITORY, "latest", ours)).status == 503
    assert await stage.outcomes() == [Outcome.CREATED]
    assert len(await stage.edge.parts.register.intents(REPOSITORY)) == 1


async def test_h114_a_push_whose_answer_was_lost_and_that_changed_nothing_is_told_as_that(stage: Stage) -> None:
    assert (await stage.edge.client.put(REPOSITORY, "latest", image("ours"))).status == 201
    stage.middle.act = hang_up_after
    assert (await stage.edge.client.put(REPOSITORY, "latest", image("ours"))).status == 201
    assert await stage.outcomes() == [Outcome.CREATED, Outcome.UNCHANGED]
