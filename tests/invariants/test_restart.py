"""Everything is killed and started again in the middle of pushes: nothing answered is lost, and every push is told.

Two proxies, Redis and the registry are real processes; all of them get SIGKILL at a random moment, twice.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from immuproxy.ledger import keys
from tests.support.conversation import Client, Image, image
from tests.support.proxies import ProxyServer, running_proxy
from tests.support.servers import RedisServer, RegistryServer, running_redis, running_registry

REPOSITORY = "team/app"
TAGS = 12
CONTENTS = 3
SECONDS = 6.0
SETTLED = 60.0
FOLLOWED = 10.0  # seconds; the audit is told of an answer after it was given
LIMITS = {"upstream": {"timeouts": {"manifest": "400ms"}}}


@dataclass
class World:
    registry: RegistryServer
    redis: RedisServer
    proxies: list[ProxyServer]
    session: aiohttp.ClientSession
    answers: list[tuple[str, str, int]] = field(default_factory=list)

    def kill_everything(self) -> None:
        for server in (*self.proxies, self.redis, self.registry):
            server.kill()

    def start_everything(self) -> None:
        for server in (self.registry, self.redis, *self.proxies):
            server.start()

    async def push(self, tag: str, pushed: Image) -> None:
        """One push by a client that gives up when the connection breaks; what was answered is kept."""
        proxy = random.choice(self.proxies)
        with suppress(aiohttp.ClientError, OSError, TimeoutError):
            answer = await Client(proxy.url, self.session).put(REPOSITORY, tag, pushed)
            self.answers.append((tag, pushed.digest, answer.status))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    with ExitStack() as servers:
        registry = servers.enter_context(running_registry())
        redis = servers.enter_context(running_redis())
        proxies = [
            servers.enter_context(running_proxy(registry.url, {"url": redis.url}, more=LIMITS)) for _ in range(2)
        ]
        async with AsyncExitStack() as stack:
            timeout = aiohttp.ClientTimeout(total=20)
            session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False, timeout=timeout))
            yield World(registry, redis, proxies, session)


@pytest.mark.timeout(240)
@pytest.mark.blocking_allowed  # the servers are killed and started from the test itself
async def test_i2_i3_i10_nothing_is_lost_when_everything_is_killed_in_the_middle_of_pushes(world: World) -> None:
    contents = [image(f"content {number}") for number in range(CONTENTS)]
    for pushed in contents:
        await Client(world.registry.url, world.session).blobs(REPOSITORY, pushed)
    for _ in range(2):
        await _push_while_everything_dies(world, contents)
        await asyncio.to_thread(world.start_everything)
    await _settle(world, contents)
    acknowledged = {(tag, digest) for tag, digest, status in world.answers if status == 201}
    assert len(acknowledged) >= TAGS / 2, world.answers
    assert max(Counter(tag for tag, _ in acknowledged).values()) == 1
    for proxy in world.proxies:
        for tag, digest in acknowledged:
            answer = await Client(proxy.url, world.session).pull(REPOSITORY, tag)
            assert (answer.status, answer.digest) == (200, digest)
    await _check_events(world)


async def _push_while_everything_dies(world: World, contents: list[Image]) -> None:
    loop = asyncio.get_running_loop()
    dies = loop.time() + random.uniform(0.3, 0.5) * SECONDS
    running: set[asyncio.Task[None]] = set()
    while loop.time() < dies:
        tag = f"t{random.randrange(TAGS)}"
        running.add(asyncio.create_task(world.push(tag, random.choice(contents))))
        await asyncio.sleep(0.02)
    world.kill_everything()
    await asyncio.gather(*running)


async def _settle(world: World, contents: list[Image]) -> None:
    """Push every tag until it is decided, then wait until no push is open any more."""
    ends = asyncio.get_running_loop().time() + SETTLED
    for number in range(TAGS):
        while asyncio.get_running_loop().time() < ends:
            await world.push(f"t{number}", contents[number % CONTENTS])
            if world.answers[-1][0] == f"t{number}" and world.answers[-1][2] in {201, 409}:
                break
            await asyncio.sleep(0.5)
    async with Redis.from_url(world.redis.url) as client:
        while await client.hlen(keys.intents(REPOSITORY)) and asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(0.2)
        assert await client.hlen(keys.intents(REPOSITORY)) == 0


async def _check_events(world: World) -> None:
    """Each tag came to be once, and every answer that says something about a tag has its event."""
    asked = Counter((tag, digest, status == 409) for tag, digest, status in world.answers if status in {201, 409})
    found = await _events(world)
    ends = asyncio.get_running_loop().time() + FOLLOWED
    while asked - _told(found) and asyncio.get_running_loop().time() < ends:
        await asyncio.sleep(0.1)
        found = await _events(world)
    assert len({event["id"] for event in found}) == len(found)
    created = Counter(event["tag"] for event in found if event["outcome"] == "created")
    assert set(created.values()) == {1}
    missing = asked - _told(found)
    assert not missing, missing


async def _events(world: World) -> list[dict[str, Any]]:
    url = f"{world.proxies[0].console_url}/api/v1/events"
    async with world.session.get(url, params={"repository": REPOSITORY, "limit": "1000"}) as answer:
        found: list[dict[str, Any]] = (await answer.json())["events"]
    return found


def _told(found: list[dict[str, Any]]) -> Counter[tuple[str, str, bool]]:
    return Counter((event["tag"], event["digest"], event["outcome"] == "refused") for event in found)
