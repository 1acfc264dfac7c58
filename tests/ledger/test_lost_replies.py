"""A reply of Redis that is lost after its command was executed, and callers that give up on slow ones (H65, H66)."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from immuproxy.ledger.model import Outcome
from immuproxy.store.redis import LedgerUnavailableError, connect
from immuproxy.store.scripts import SCRIPTS
from tests.support.between import lossy
from tests.support.conversation import edge_over, image
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY = "team/app"


def mark(script: str) -> bytes:
    """By what a call of a script is known on the wire."""
    return SCRIPTS[script].sha.encode()


@pytest.mark.parametrize("script", ["claim", "arm", "commit"])
async def test_h65_a_step_whose_reply_is_lost_is_taken_once(
    registry: RegistryServer, redis_server: RedisServer, script: str
) -> None:
    async with lossy(redis_server.port) as relay:
        url = f"redis://127.0.0.1:{relay.port}/0"
        async with edge_over(registry.url, url) as edge:
            await edge.client.push("warm/up", "1.0", image("warm"))  # the scripts are known to Redis now
            ours = image("ours")
            await edge.client.blobs(REPOSITORY, ours)
            relay.lose, relay.times = mark(script), 1
            async with asyncio.timeout(2):
                answer = await edge.client.put(REPOSITORY, "1.0", ours)
            assert (relay.lost, answer.status) == (1, 201)
            found = await edge.parts.register.read(REPOSITORY, "1.0")
            assert found.committed is not None
            assert (found.committed.generation, found.claim) == (1, None)
            told = [event.outcome for event in await edge.events(REPOSITORY)]
            assert told.count(Outcome.CREATED) == 1
            assert not await edge.parts.register.intents(REPOSITORY)
            assert await edge.parts.register.pin_count(REPOSITORY, ours.digest) == 1


async def test_h65_a_lost_reply_of_the_commit_is_not_even_noticed(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    async with (
        lossy(redis_server.port) as relay,
        edge_over(registry.url, f"redis://127.0.0.1:{relay.port}/0") as edge,
    ):
        await edge.client.push("warm/up", "1.0", image("warm"))
        relay.lose, relay.times = mark("commit"), 2
        assert (await edge.client.push(REPOSITORY, "1.0", image("ours"))).status == 201
        assert relay.lost == 2
        assert [event.outcome for event in await edge.events(REPOSITORY)] == [Outcome.CREATED]


async def test_h65_the_library_sends_no_command_a_second_time(redis_server: RedisServer) -> None:
    async with lossy(redis_server.port) as relay, connect(f"redis://127.0.0.1:{relay.port}/0", timeout=1.0) as store:
        await store.do(store.client.ping())
        relay.lose, relay.times = b"INCR", 1
        with pytest.raises(LedgerUnavailableError):
            await store.do(store.client.incr("counted"))
        assert await store.do(store.client.get("counted")) == b"1"


async def test_h66_who_gives_up_on_a_reply_leaves_it_to_nobody_else(redis_server: RedisServer) -> None:
    """Each asks for another key, many are cancelled while the reply is on its way, and none may get another's."""
    async with Redis.from_url(redis_server.url) as direct:
        for number in range(200):
            await direct.set(f"key:{number}", number)
    async with lossy(redis_server.port) as relay, connect(f"redis://127.0.0.1:{relay.port}/0", timeout=2.0) as store:
        relay.delay = 0.005

        async def ask(number: int) -> None:
            for _ in range(5):
                assert await store.do(store.client.get(f"key:{number}")) == str(number).encode()

        for storm in range(4):
            tasks = [asyncio.create_task(ask(number)) for number in range(200)]
            await asyncio.sleep(0.01 + 0.01 * storm)
            for task in tasks[::2]:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert [how for how in ended if isinstance(how, AssertionError)] == []
