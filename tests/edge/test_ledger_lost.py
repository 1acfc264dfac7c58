"""A ledger that is emptied or put back to an older copy does not open the tags that the upstream holds (H68)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from immuproxy.edge import record
from immuproxy.ledger import keys
from immuproxy.ledger.content import Content
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.model import Action, Outcome, Step
from tests.support.conversation import RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer


async def test_h68_after_flushall_what_the_upstream_holds_is_adopted_again(edge: RunningEdge) -> None:
    ours = image("ours")
    await edge.client.push("team/app", "1.0", ours)
    await edge.store.client.flushall()
    assert (await edge.client.push("team/app", "1.0", image("other"))).status == 409
    assert (await edge.client.pull("team/app", "1.0")).digest == ours.digest


async def test_h68_after_flushall_new_tags_wait_until_no_earlier_push_can_land(edge: RunningEdge) -> None:
    await edge.client.push("team/app", "1.0", image("one"))
    await edge.store.client.flushall()
    answer = await edge.client.push("team/app", "2.0", image("two"))
    assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
    assert int(answer.headers["Retry-After"]) > 1
    record = await edge.parts.register.read("team/app", "2.0")
    assert record.claim is None


async def test_h68_after_flushall_deletes_still_see_what_is_needed(edge: RunningEdge) -> None:
    ours = image("ours")
    await edge.client.push("team/app", "1.0", ours)
    await edge.store.client.flushall()
    answer = await edge.client.ask("DELETE", f"/v2/team/app/manifests/{ours.digest}")
    assert answer.status == 405


@pytest.mark.parametrize("times", [1, 9])
async def test_h68_flushall_in_the_middle_of_a_delete_opens_nothing(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """It comes when all tags were found adopted, and before the step that looks at the pins."""
    ours, loose = image("ours"), image("loose")
    await edge.client.push("team/app", "1.0", ours)
    for each in (loose, image("warm")):
        await edge.client.push("team/app", each.digest, each)
    assert (await edge.client.ask("DELETE", f"/v2/team/app/manifests/{image('warm').digest}")).status == 202
    register = edge.parts.register
    real, left = register.begin_delete, [times]

    async def emptied(*arguments: Any, **named: Any) -> Step:
        if left[0]:
            left[0] -= 1
            await edge.store.client.flushall()
        return await real(*arguments, **named)

    async def unpinned(*_: Any) -> int:
        return 0

    monkeypatch.setattr(register, "begin_delete", emptied)
    monkeypatch.setattr(register, "pin_count", unpinned)  # as if each look came before the flush
    answer = await edge.client.ask("DELETE", f"/v2/team/app/manifests/{ours.digest}")
    assert answer.status == (405 if times == 1 else 503)
    assert (await edge.direct.pull("team/app", "1.0")).digest == ours.digest
    left[0] = 1
    assert (await edge.client.ask("DELETE", f"/v2/team/app/manifests/{loose.digest}")).status == 202


async def snapshot(edge: RunningEdge) -> dict[bytes, bytes]:
    client: Any = edge.store.client
    return {key: await client.dump(key) for key in await client.keys("*")}


async def test_h68_an_older_copy_does_not_know_what_it_says_was_adopted(edge: RunningEdge) -> None:
    """Every protected tag had its record once, and the copy says so; but it is older than the newest of them."""
    loose, ours = image("loose"), image("ours")
    for pushed in (loose, ours):
        await edge.client.push("team/app", pushed.digest, pushed)
    assert (await edge.client.ask("DELETE", f"/v2/team/app/manifests/{loose.digest}")).status == 202
    older = await snapshot(edge)
    await edge.parts.epoch.beat()
    await edge.client.put("team/app", "1.0", ours)
    await edge.store.client.flushall()
    for key, value in older.items():
        await edge.store.client.restore(key, 0, value)
    answer = await edge.client.ask("DELETE", f"/v2/team/app/manifests/{ours.digest}")
    assert answer.status == 405
    assert (await edge.direct.pull("team/app", "1.0")).digest == ours.digest


async def test_h68_beats_whose_replies_cross_are_no_loss(edge: RunningEdge) -> None:
    epoch = Epoch(edge.store, quarantine=30)
    await asyncio.gather(*(epoch.beat() for _ in range(50)))
    assert epoch.recovering() == 0


async def test_h68_a_copy_that_was_put_back_while_no_proxy_ran_opens_no_delete(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    """The copy says that all tags are known, and is older than the youngest of them."""
    old, young = image("old"), image("young")
    async with edge_over(registry.url, redis_server.url) as edge:
        await edge.client.push("team/app", "1.0", old)
        path = f"/v2/team/app/manifests/{old.digest}"
        assert (await edge.client.ask("DELETE", path)).status == 405
        names = await edge.store.client.keys("*")
        copy = {name: await edge.store.client.dump(name) for name in names}
        await edge.client.push("team/app", "2.0", young)
    async with edge_over(registry.url, redis_server.url) as edge:
        await edge.store.client.flushall()
        for name, value in copy.items():
            assert value is not None
            await edge.store.client.restore(name, 0, value)
        assert (await edge.client.ask("DELETE", f"/v2/team/app/manifests/{young.digest}")).status == 405
        assert (await edge.client.pull("team/app", "2.0")).digest == young.digest


async def test_h68_a_beat_that_went_back_begins_a_recovery(edge: RunningEdge) -> None:
    epoch = Epoch(edge.store, quarantine=30)
    for _ in range(2):
        await epoch.beat()
    older = await edge.store.client.dump(keys.BEATS)
    assert older
    await epoch.beat()
    assert epoch.recovering() == 0
    await edge.store.client.restore(keys.BEATS, 0, older, replace=True)
    await epoch.beat()
    assert 25 < epoch.recovering() <= 30


async def test_another_proxys_beats_are_no_loss(edge: RunningEdge) -> None:
    ours, other = Epoch(edge.store, quarantine=30), Epoch(edge.store, quarantine=30)
    for _ in range(3):
        await ours.beat()
        await other.beat()
    assert (ours.recovering(), other.recovering()) == (0, 0)


async def test_h68_a_commit_whose_pins_were_lost_is_whole_all_the_same(edge: RunningEdge) -> None:
    """Of a script that fails half-way, what it has written stays: the tag without its event."""
    register, ours, token = edge.parts.register, image("ours"), record.new_token()
    content = Content(digest=ours.digest, needs=frozenset({ours.digest}))
    event = record.own(Action.PUSH, Outcome.CREATED, "team/app", tag="1.0", digest=ours.digest)
    await register.claim("team/app", "1.0", content, token=token, lease_ms=60_000)
    await register.arm("team/app", "1.0", content, token=token, lease_ms=60_000, draft=event, closing=None)
    await edge.store.do(edge.store.client.delete(keys.pins("team/app")))
    reply = await register.commit("team/app", "1.0", content, token=token, event=event, first=True)
    assert reply.step is Step.COMMITTED
    assert [told.outcome for told in await edge.events("team/app")] == [Outcome.CREATED]
    assert not await register.intents("team/app")
