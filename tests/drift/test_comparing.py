"""The comparison shares the work, keeps to its rate, and goes on where another proxy stopped (H37)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from immuproxy.drift import comparing
from immuproxy.drift.comparing import Comparison
from immuproxy.drift.healer import Healer
from immuproxy.edge.upstream import UpstreamUnavailableError
from immuproxy.ledger import keys
from immuproxy.ledger.model import TagRecord
from tests.drift.test_sweep import left_delete, sweep_of, untagged
from tests.support.conversation import RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY = "team/app"
TAGS = [f"{number}.0" for number in range(8)]


class Looks(Healer):
    """Keeps the tags that were looked at; what `fails` names is not told by the upstream."""

    def __init__(self, edge: RunningEdge, fails: Callable[[str], BaseException | None] = lambda _tag: None) -> None:
        healer = edge.parts.healer
        super().__init__(healer._register, healer._upstream, healer._service, healer._limits)
        self.seen: list[str] = []
        self.fails = fails

    async def check(self, found: TagRecord) -> bool:
        self.seen.append(found.tag)
        if error := self.fails(found.tag):
            raise error
        return True


@pytest.fixture
async def edge(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    async with edge_over(registry.url, redis_server.url) as running:
        for tag in TAGS:
            await running.client.push(REPOSITORY, tag, image("one"))
        yield running


def comparison(edge: RunningEdge, looks: Looks, rate: float = 10_000) -> Comparison:
    return Comparison(edge.parts.register, looks, edge.parts.healer._upstream, rate=rate)


async def hold_ends(edge: RunningEdge) -> None:
    client: Any = edge.store.client
    await client.delete(keys.compared(REPOSITORY))


async def compared(edge: RunningEdge) -> int:
    return (await edge.parts.register.comparisons.progress()).repositories


async def test_a_comparison_that_was_stopped_is_gone_on_with(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "KEPT_EVERY", 2)
    stopped = Looks(edge, lambda tag: asyncio.CancelledError() if tag == TAGS[5] else None)
    with pytest.raises(asyncio.CancelledError):
        await comparison(edge, stopped).once()
    assert await compared(edge) == 0
    client: Any = edge.store.client
    assert 0 < await client.ttl(keys.compared(REPOSITORY)) <= comparing.HELD
    await hold_ends(edge)
    other = Looks(edge)
    await comparison(edge, other).once()
    assert other.seen == TAGS[4:]
    assert await compared(edge) == 1
    assert await client.ttl(keys.compared(REPOSITORY)) > comparing.HELD
    await hold_ends(edge)
    again = Looks(edge)
    await comparison(edge, again).once()
    assert again.seen == TAGS


async def test_some_tags_that_nobody_can_read_do_not_hide_the_others(edge: RunningEdge) -> None:
    looks = Looks(edge, lambda tag: UpstreamUnavailableError("damaged", 500) if tag < TAGS[4] else None)
    await comparison(edge, looks).once()
    assert looks.seen == TAGS
    assert await compared(edge) == 0  # it is not the whole repository that was compared


@pytest.mark.parametrize("status", [401, 403])
async def test_who_may_not_look_asks_no_further(edge: RunningEdge, status: int) -> None:
    looks = Looks(edge, lambda _tag: UpstreamUnavailableError("no", status))
    await comparison(edge, looks).once()
    assert looks.seen == TAGS[:1]
    assert await compared(edge) == 0


async def test_an_upstream_that_went_away_ends_the_walk_without_a_verdict(
    edge: RunningEdge, registry: RegistryServer
) -> None:
    registry.stop()
    looks = Looks(edge, lambda _tag: UpstreamUnavailableError("no connection"))
    await comparison(edge, looks).once()
    assert looks.seen == TAGS[: comparing.MOST_FAILURES]
    assert await compared(edge) == 0
    registry.start()
    await hold_ends(edge)
    after = Looks(edge)
    await comparison(edge, after).once()
    assert after.seen == TAGS


async def test_several_proxies_share_the_work(edge: RunningEdge) -> None:
    looks = [Looks(edge) for _ in range(3)]
    await asyncio.gather(*(comparison(edge, each).once() for each in looks))
    assert sorted(tag for each in looks for tag in each.seen) == TAGS


async def test_it_keeps_to_its_rate(edge: RunningEdge) -> None:
    began = asyncio.get_running_loop().time()
    await comparison(edge, Looks(edge), rate=20).once()
    assert asyncio.get_running_loop().time() - began >= (len(TAGS) - 1) / 20


async def test_what_is_open_does_not_wait_for_a_long_comparison(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("immuproxy.drift.sweep.INTERVAL", 0.02)
    sweep = sweep_of(edge)
    begun = asyncio.Event()

    async def endless() -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(sweep._comparison, "once", endless)
    running = [asyncio.ensure_future(work()) for work in sweep.works]
    async with asyncio.timeout(5):
        await begun.wait()
        pushed = await untagged(edge, "gone")
        await left_delete(edge, pushed.digest)
        while await edge.parts.register.intents(REPOSITORY):
            await asyncio.sleep(0.01)
    for task in running:
        task.cancel()
