"""An overwrite that is under way is no drift."""

from __future__ import annotations

from immuproxy.edge import record
from immuproxy.ledger.content import Content
from immuproxy.ledger.model import Action, Outcome
from tests.support.conversation import edge_over, image
from tests.support.servers import RedisServer, RegistryServer


async def test_what_an_overwrite_has_just_written_is_no_drift(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    """A reader looked the record up before the overwrite began, and the upstream after it was written."""
    async with edge_over(registry.url, redis_server.url) as edge:
        ours, next_, register = image("ours"), image("next"), edge.parts.register
        await edge.client.push("team/app", "1.0", ours)
        before = await register.read("team/app", "1.0")
        content = Content(digest=next_.digest, needs=frozenset({next_.digest}))
        await register.claim(
            "team/app", "1.0", content, token="t", lease_ms=60_000, over_generation=1, over_digest=ours.digest
        )
        draft = record.own(Action.PUSH, Outcome.FAILED, "team/app", tag="1.0", digest=next_.digest)
        await register.arm("team/app", "1.0", content, token="t", lease_ms=60_000, draft=draft, closing=None)
        await edge.direct.push("team/app", "1.0", next_)
        assert await edge.parts.healer.repair(before, next_.digest)
        assert [event.action for event in await edge.events("team/app")] == [Action.PUSH]
        assert (await edge.direct.pull("team/app", "1.0")).digest == next_.digest
