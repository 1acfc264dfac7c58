"""A rule that is narrowed or widened while tags are there (H59)."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest
from multidict import CIMultiDict

from immuproxy.edge.answers import API_VERSION
from immuproxy.ledger import keys
from immuproxy.ledger.model import Action, Outcome
from tests.support.between import Request, between
from tests.support.conversation import Answer, RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY = "team/app"
IMMUTABLE, MUTABLE = "default: immutable", "default: mutable"


async def test_h59_a_tag_that_is_no_longer_protected_moves_and_its_record_goes(edge: RunningEdge) -> None:
    one, two, three = image("one"), image("two"), image("three")
    await edge.client.push(REPOSITORY, "1.0", one)
    edge.use_rules(MUTABLE)
    assert (await edge.client.push(REPOSITORY, "1.0", two)).status == 201
    assert (await edge.client.pull(REPOSITORY, "1.0")).digest == two.digest
    assert (await edge.parts.register.read(REPOSITORY, "1.0")).committed is None
    assert not await edge.store.client.hgetall(keys.pins(REPOSITORY))
    moved = (await edge.events(REPOSITORY))[-1]
    assert (moved.outcome, moved.previous_digest) == (Outcome.OVERWRITTEN, one.digest)
    edge.use_rules(IMMUTABLE)
    refused = await edge.client.push(REPOSITORY, "1.0", three)
    assert (refused.status, refused.error["detail"]["current_digest"]) == (409, two.digest)
    assert [event.action for event in await edge.events(REPOSITORY)][-2:] == [Action.ADOPT, Action.PUSH]


async def test_h59_a_change_back_before_anybody_pushed_changes_nothing(edge: RunningEdge) -> None:
    one = image("one")
    await edge.client.push(REPOSITORY, "1.0", one)
    edge.use_rules(MUTABLE)
    await edge.direct.push(REPOSITORY, "1.0", image("two"))
    edge.use_rules(IMMUTABLE)
    assert (await edge.client.pull(REPOSITORY, "1.0")).digest == one.digest
    assert (await edge.client.push(REPOSITORY, "1.0", image("three"))).status == 409


async def test_h59_a_rule_that_is_widened_takes_in_what_is_there(edge: RunningEdge) -> None:
    edge.use_rules(MUTABLE)
    for seed in ("one", "two"):
        await edge.client.push(REPOSITORY, "1.0", image(seed))
    edge.use_rules(IMMUTABLE)
    assert (await edge.client.push(REPOSITORY, "1.0", image("three"))).status == 409
    assert (await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{image('two').digest}")).status == 405
    assert (await edge.client.pull(REPOSITORY, "1.0")).digest == image("two").digest


@pytest.fixture
async def deleting_edge(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    """Before a registry that deletes tags by name, as distribution 3 does and 2.8 does not."""
    tags = registry.storage / f"docker/registry/v2/repositories/{REPOSITORY}/_manifests/tags"

    async def delete_tags(request: Request) -> Answer | None:
        name = request.target.rpartition("/")[2]
        if request.method != "DELETE" or ":" in name:
            return await request.forward()
        shutil.rmtree(tags / name)
        return Answer(202, CIMultiDict([API_VERSION]), b"")

    async with between(registry.url, delete_tags) as middle, edge_over(middle.url, redis_server.url) as running:
        yield running


async def test_h59_a_tag_deleted_while_it_was_not_protected_stays_deleted(deleting_edge: RunningEdge) -> None:
    edge = deleting_edge
    await edge.client.push(REPOSITORY, "1.0", image("one"))
    edge.use_rules(MUTABLE)
    assert (await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/1.0")).status == 202
    edge.use_rules(IMMUTABLE)
    assert (await edge.client.pull(REPOSITORY, "1.0")).status == 404
    assert (await edge.client.push(REPOSITORY, "1.0", image("two"))).status == 201


async def test_h30_a_protected_tag_is_not_deleted_by_name(deleting_edge: RunningEdge) -> None:
    edge = deleting_edge
    await edge.client.push(REPOSITORY, "1.0", image("one"))
    for tag in ("1.0", "never-pushed"):
        answer = await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{tag}")
        assert (answer.status, answer.error["code"]) == (405, "UNSUPPORTED")
    assert (await edge.client.pull(REPOSITORY, "1.0")).digest == image("one").digest
    edge.use_rules("rules: [{name: free, policy: immutable, delete: allow, reuse: never}]")
    assert (await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/1.0")).status == 202
    assert (await edge.client.pull(REPOSITORY, "1.0")).status == 404
    assert (await edge.client.push(REPOSITORY, "1.0", image("two"))).status == 409
