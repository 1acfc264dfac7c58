"""What a delete takes along is told with it: each tag, so that its page ends its life there (H100), and an overwrite
that it cut off (H101).
"""

from __future__ import annotations

from typing import Any

import pytest

from immuproxy.ledger import keys
from immuproxy.ledger.model import Action, Event, Outcome
from immuproxy.store.redis import LedgerUnavailableError
from tests.drift.test_sweep import sweep_of
from tests.support.conversation import Answer, RunningEdge, image, sha256

REPOSITORY = "team/app"
RULED = """
default: mutable
rules:
  - {name: again, tags: ["2.*"], policy: immutable, delete: allow, reuse: allow}
  - {name: never-again, tags: ["1.*"], policy: immutable, delete: allow, reuse: never}
"""
ONE, TWO = image("one"), image("two")


async def delete(edge: RunningEdge, reference: str) -> Answer:
    return await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{reference}", X_Request_Id="that-delete")


async def endings(edge: RunningEdge) -> list[Event]:
    return [event for event in await edge.events(REPOSITORY) if event.outcome is Outcome.DELETED]


def told(events: list[Event]) -> set[tuple[str, str, str]]:
    return {(event.action, event.tag, event.rule) for event in events}


EVERY_TAG = {
    (Action.DELETE_MANIFEST, "", ""),
    (Action.DELETE_TAG, "1.0", "never-again"),
    (Action.DELETE_TAG, "2.0", "again"),
    (Action.DELETE_TAG, "latest", "default"),
}


async def held_by_three_tags(edge: RunningEdge) -> None:
    """And by another that has moved on since."""
    edge.use_rules(RULED)
    for tag in ("1.0", "2.0", "latest", "dev"):
        assert (await edge.client.push(REPOSITORY, tag, ONE)).status == 201
    assert (await edge.client.push(REPOSITORY, "dev", TWO)).status == 201


async def test_h100_each_tag_that_went_has_its_event(edge: RunningEdge) -> None:
    await held_by_three_tags(edge)
    assert (await delete(edge, ONE.digest)).status == 202
    ended = await endings(edge)
    assert told(ended) == EVERY_TAG
    assert len({event.id for event in ended}) == len(ended) == 4
    assert {(event.digest, event.request_id) for event in ended} == {(ONE.digest, ended[0].request_id)}
    assert (await edge.client.pull(REPOSITORY, "dev")).digest == TWO.digest


async def test_h100_also_where_the_sweep_finds_out_that_it_went(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held_by_three_tags(edge)

    async def lost(*_args: object, **_values: object) -> bool:
        raise LedgerUnavailableError("cut off")

    with monkeypatch.context() as patched:
        patched.setattr(edge.parts.register, "end_delete", lost)
        assert (await delete(edge, ONE.digest)).status == 503
    await sweep_of(edge).once()
    assert told(await endings(edge)) == EVERY_TAG


async def test_h100_a_tag_that_was_moved_past_the_proxy_has_not_gone(edge: RunningEdge) -> None:
    edge.use_rules(RULED)
    await edge.client.push(REPOSITORY, "latest", ONE)
    await edge.direct.push(REPOSITORY, "latest", TWO)
    assert (await delete(edge, ONE.digest)).status == 202
    assert [event.tag for event in await endings(edge)] == [""]


async def test_h100_a_tag_that_is_pushed_before_the_delete_is_told_keeps_its_life(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge.use_rules(RULED)
    await edge.client.push(REPOSITORY, "latest", ONE)
    register: Any = edge.parts.register
    real = register.end_delete

    async def after_a_push(*args: Any, **values: Any) -> Any:
        assert (await edge.client.push(REPOSITORY, "latest", TWO)).status == 201
        return await real(*args, **values)

    monkeypatch.setattr(register, "end_delete", after_a_push)
    assert (await delete(edge, ONE.digest)).status == 202
    assert [event.tag for event in await endings(edge)] == [""]


async def test_h100_nothing_is_left_of_tags_that_are_gone(edge: RunningEdge) -> None:
    await held_by_three_tags(edge)
    for digest in (ONE.digest, TWO.digest):
        assert (await delete(edge, digest)).status == 202
    assert [event.tag for event in await endings(edge)].count("dev") == 1
    client: Any = edge.store.client
    assert not await client.exists(keys.moving(REPOSITORY), keys.moved(REPOSITORY))


async def test_h101_an_overwrite_that_a_delete_cut_off_is_told_by_that_delete(edge: RunningEdge) -> None:
    """Its push is refused, since the name stays taken; that the upstream has its content is no success of it."""
    edge.use_rules("rules: [{name: never, policy: immutable, delete: allow, reuse: never, overwrite: [{within: 15m}]}]")
    await edge.client.push(REPOSITORY, "1.0", ONE)
    register: Any = edge.parts.register
    real = register.commit

    async def after_the_delete(*args: Any, **values: Any) -> Any:
        register.commit = real
        assert (await delete(edge, ONE.digest)).status == 202
        return await real(*args, **values)

    register.commit = after_the_delete
    assert (await edge.client.push(REPOSITORY, "1.0", TWO)).status == 409
    assert await register.intents(REPOSITORY) == []
    await sweep_of(edge).once()
    pushes = [event for event in await edge.events(REPOSITORY) if event.action is Action.PUSH]
    assert [event.outcome for event in pushes] == [Outcome.CREATED, Outcome.UNKNOWN, Outcome.REFUSED]
    assert pushes[1].reason == "the tag was deleted while this push was under way"
    assert (await edge.client.pull(REPOSITORY, "1.0")).status == 404


@pytest.mark.parametrize("route", ["blobs", "manifests"])
async def test_h114_a_delete_of_what_is_gone_already_leaves_nothing_open(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    """Cut off, it would be told as the delete that took it."""

    async def never(*_: object, **__: object) -> None:
        raise AssertionError

    pushed = image("gone")
    await edge.direct.blobs(REPOSITORY, pushed)
    await edge.direct.put(REPOSITORY, pushed.digest, pushed)
    digest = sha256(pushed.blobs[0]) if route == "blobs" else pushed.digest
    target = f"/v2/{REPOSITORY}/{route}/{digest}"
    assert (await edge.client.ask("DELETE", target)).status == 202
    monkeypatch.setattr(edge.parts.register, "begin_delete", never)
    assert (await edge.client.ask("DELETE", target)).status == 404
    told_last = (await edge.events(REPOSITORY))[-1]
    assert (told_last.digest, told_last.outcome) == (digest, Outcome.MISSING)
