"""A proxy killed at each step of a push, and what a second proxy makes of what it left (F1 to F8, I8, I10, H64).

Both are real processes on one Redis and one registry.  A manifest request may take a second here, so a claim's lease
is 5 s and the quarantine 10 s: less, and a busy machine is too slow for an ordinary push.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from immuproxy.ledger import keys
from tests.support.conversation import Answer, Client, Image, image
from tests.support.proxies import ProxyServer, running_proxy
from tests.support.servers import RedisServer, RegistryServer, running_redis, running_registry, wait_until

LIMITS = {"upstream": {"timeouts": {"manifest": "1s"}}}
SETTLED = 30.0
"""Seconds after which every push is decided: lease, quarantine, and a busy machine."""

UNSENT = ("F1", "F2", "F3", "F4", "F5")
STORED = ("F6", "F7", "F8")
WITHOUT_TRACE = ("F1", "F2", "F3")
"""The upstream could not have seen these pushes, so they need no event."""


@dataclass(frozen=True)
class Scene:
    """A registry and a Redis, with one proxy that lives."""

    registry: RegistryServer
    redis: RedisServer
    survivor: ProxyServer


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with (
        running_registry() as registry,
        running_redis() as redis,
        running_proxy(registry.url, {"url": redis.url}, more=LIMITS) as survivor,
    ):
        yield Scene(registry, redis, survivor)


@dataclass(frozen=True)
class Play:
    """One repository, two images whose blobs it has, and what can be done with them."""

    scene: Scene
    repository: str
    ours: Image
    other: Image
    session: aiohttp.ClientSession

    @property
    def proxy(self) -> Client:
        return Client(self.scene.survivor.url, self.session)

    @property
    def direct(self) -> Client:
        return Client(self.scene.registry.url, self.session)

    async def die(self, point: str) -> None:
        """Push `ours` through a proxy that kills itself at `point`."""
        scene = self.scene
        environment = {"IMMUPROXY_FAILPOINT": point}
        with running_proxy(
            scene.registry.url, {"url": scene.redis.url}, more=LIMITS, environment=environment
        ) as victim:
            with pytest.raises(aiohttp.ClientError):
                # Where the machine stands still for a second, its short lease passes before the point is reached.
                while (await Client(victim.url, self.session).put(self.repository, "1.0", self.ours)).status == 503:
                    await asyncio.sleep(0.1)
            wait_until(lambda: not victim.is_running, "the proxy to kill itself", 5)

    async def push_until_decided(self, pushed: Image) -> Answer:
        """As a patient client: push until the answer is something else than 503."""
        deadline = time.monotonic() + SETTLED
        while True:
            answer = await self.proxy.put(self.repository, "1.0", pushed)
            if answer.status != 503 or time.monotonic() > deadline:
                return answer
            assert int(answer.headers["Retry-After"]) >= 1
            await asyncio.sleep(0.3)

    async def check_held(self, held: Image) -> None:
        """Readers and the upstream agree on what the tag holds."""
        assert (await self.proxy.pull(self.repository, "1.0")).digest == held.digest
        assert (await self.direct.pull(self.repository, "1.0")).digest == held.digest

    async def check_events(self, *, pushes: int, held: Image) -> None:
        """One event for each push that could have reached the upstream, one of them for what the tag holds (I10)."""
        found = await self._events(pushes)
        told = json.dumps(found, indent=1)
        assert [event["action"] for event in found] == ["push"] * pushes, told
        assert len({event["id"] for event in found}) == pushes, told
        assert [event["digest"] for event in found if event["outcome"] == "created"] == [held.digest], told
        async with Redis.from_url(self.scene.redis.url) as client:
            assert await client.hlen(keys.intents(self.repository)) == 0

    async def _events(self, count: int) -> list[dict[str, Any]]:
        """All events of the repository, once `count` of them have reached the audit."""
        url = f"{self.scene.survivor.console_url}/api/v1/events"
        found: list[dict[str, Any]] = []
        deadline = time.monotonic() + SETTLED
        while len(found) < count and time.monotonic() < deadline:
            async with self.session.get(url, params={"repository": self.repository}) as answer:
                found = (await answer.json())["events"]
            await asyncio.sleep(0.1)
        return found


@pytest.fixture
async def play(scene: Scene, unique_name: str) -> AsyncIterator[Play]:
    ours, other = image(f"ours {unique_name}"), image(f"other {unique_name}")
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        staged = Play(scene, unique_name, ours, other, session)
        for pushed in (ours, other):
            await staged.direct.blobs(unique_name, pushed)
        yield staged


@pytest.mark.parametrize("point", UNSENT + STORED)
async def test_i8_a_push_of_the_same_content_succeeds_after_the_crash(point: str, play: Play) -> None:
    await play.die(point)
    if point in UNSENT:
        assert (await play.proxy.pull(play.repository, "1.0")).status == 404
    assert (await play.proxy.put(play.repository, "1.0", play.ours)).status == 201
    await play.check_held(play.ours)
    await play.check_events(pushes=1 if point in WITHOUT_TRACE else 2, held=play.ours)


@pytest.mark.parametrize("point", UNSENT + STORED)
async def test_i8_other_content_is_refused_or_decided_after_the_crash(point: str, play: Play) -> None:
    await play.die(point)
    answer = await play.push_until_decided(play.other)
    assert answer.status == (409 if point in STORED else 201), answer.body
    held = play.ours if point in STORED else play.other
    await play.check_held(held)
    await play.check_events(pushes=1 if point in WITHOUT_TRACE else 2, held=held)


@pytest.mark.parametrize("point", STORED)
async def test_i2_a_reader_sees_the_content_right_after_the_crash(point: str, play: Play) -> None:
    await play.die(point)
    for method in ("HEAD", "GET", "HEAD"):
        answer = await play.proxy.pull(play.repository, "1.0", method=method)
        assert (answer.status, answer.digest) == (200, play.ours.digest)
    await play.check_events(pushes=1, held=play.ours)
