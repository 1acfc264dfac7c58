"""An upstream that asks for bearer tokens: its word on who may do what is the last one (H53-H56)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from immuproxy.ledger.model import ActorSource, Outcome
from tests.support.conversation import Client, RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer
from tests.support.tokens import TokenIssuer


@dataclass
class Guarded:
    edge: RunningEdge
    issuer: TokenIssuer

    def client(self, *actions: str, user: str = "ci", seconds: float = 300) -> Client:
        token = self.issuer.issue(user, {"team/app": actions}, seconds)
        return Client(self.edge.client.url, self.edge.client.session, {"Authorization": f"Bearer {token}"})


@pytest.fixture
async def guarded(start_registry: Callable[..., RegistryServer], redis_server: RedisServer) -> AsyncIterator[Guarded]:
    issuer = TokenIssuer()
    registry = start_registry(token=issuer)
    async with edge_over(registry.url, redis_server.url) as edge:
        yield Guarded(edge, issuer)


async def test_h53_the_challenge_comes_back_verbatim_and_nothing_is_kept(guarded: Guarded) -> None:
    path = "/v2/team/app/manifests/1.0"
    answer = await guarded.edge.client.ask("PUT", path, image("one").body, Content_Type=image("one").media_type)
    direct = await guarded.edge.direct.ask("PUT", path, image("one").body, Content_Type=image("one").media_type)
    assert answer.status == direct.status == 401
    # The registry names what it wants in an order of its own, another one each time.
    assert sorted(answer.headers["WWW-Authenticate"]) == sorted(direct.headers["WWW-Authenticate"])
    assert len(answer.body) == len(direct.body)
    assert sorted(answer.body) == sorted(direct.body)
    assert await guarded.edge.store.client.dbsize() == 0


@pytest.mark.parametrize("actions", [("pull",), ("delete",), ()])
async def test_h54_a_token_that_may_not_push_changes_nothing(guarded: Guarded, actions: tuple[str, ...]) -> None:
    answer = await guarded.client(*actions).put("team/app", "1.0", image("one"))
    assert answer.status == 401
    assert await guarded.edge.store.client.dbsize() == 0


async def test_h55_who_may_only_pull_hears_nothing_from_the_ledger(guarded: Guarded) -> None:
    await guarded.client("pull", "push").push("team/app", "1.0", image("one"))
    assert (await guarded.client("pull").put("team/app", "1.0", image("two"))).status == 401
    assert (await guarded.client("pull").pull("team/app", "1.0")).digest == image("one").digest
    assert (await guarded.client("push").ask("DELETE", "/v2/team/app/manifests/1.0")).status == 401


async def test_h56_a_push_that_was_refused_for_an_old_token_succeeds_with_a_new_one(guarded: Guarded) -> None:
    pushed = image("one")
    await guarded.client("pull", "push").blobs("team/app", pushed)
    late = await guarded.client("pull", "push", seconds=-120).put("team/app", "1.0", pushed)
    assert late.status == 401
    assert "WWW-Authenticate" in late.headers
    assert (await guarded.client("pull", "push").put("team/app", "1.0", pushed)).status == 201
    (event,) = await guarded.edge.events("team/app")
    assert (event.outcome, event.actor, event.actor_source, event.actor_confirmed) == (
        Outcome.CREATED,
        "ci",
        ActorSource.TOKEN,
        True,
    )


async def test_h54_a_delete_token_without_the_right_to_look_is_told_what_is_missing(guarded: Guarded) -> None:
    pushed = image("one")
    await guarded.client("pull", "push").push("team/app", pushed.digest, pushed)
    path = f"/v2/team/app/manifests/{pushed.digest}"
    blind = await guarded.client("delete").ask("DELETE", path)
    assert (blind.status, blind.error["code"]) == (405, "UNSUPPORTED")
    assert (await guarded.client("delete", "pull").ask("DELETE", path)).status == 202
