"""A copy that is put back, or a tail that is lost, opens no delete (H105, H106)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from tests.support.conversation import Image, RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer

OURS = image("ours")


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(redis_server.url) as client:
        yield client


def path_of(pushed: Image) -> str:
    return f"/v2/team/app/manifests/{pushed.digest}"


async def looked_at(edge: RunningEdge) -> None:
    """All tags of the repository are known: this process has let a delete go there."""
    loose = image("loose")
    for pushed in (loose, OURS):
        await edge.client.push("team/app", pushed.digest, pushed)
    assert (await edge.client.ask("DELETE", path_of(loose))).status == 202


async def check_ours_stays(edge: RunningEdge) -> None:
    answer = await edge.client.ask("DELETE", path_of(OURS))
    assert answer.status == 405, answer.body
    assert (await edge.direct.pull("team/app", "1.0")).digest == OURS.digest


async def reconnected(edge: RunningEdge) -> None:
    """Without the connections that the server's end has left."""
    assert isinstance(edge.store.client, AsyncRedis)
    await edge.store.client.connection_pool.disconnect()


async def put_back(edge: RunningEdge, server: RedisServer, copy: Path | None) -> None:
    """Start it with the data of a copy, or with none."""
    server.kill()
    data = server.directory / "appendonlydir"
    shutil.rmtree(data)
    if copy:
        shutil.copytree(copy, data)
    server.start()
    await reconnected(edge)


async def beats(edge: RunningEdge, times: int) -> None:
    for _ in range(times):
        await edge.parts.epoch.beat()


async def test_h105_a_copy_with_a_higher_beat_than_the_ledger_that_came_up_empty_opens_no_delete(
    registry: RegistryServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    async with edge_over(registry.url, redis_server.url) as edge:
        await beats(edge, 9)
        await looked_at(edge)
        shutil.copytree(redis_server.directory / "appendonlydir", tmp_path / "copy")
        assert (await edge.client.put("team/app", "1.0", OURS)).status == 201
        await put_back(edge, redis_server, None)
        await beats(edge, 2)
        await put_back(edge, redis_server, tmp_path / "copy")
        await check_ours_stays(edge)


async def test_h105_neither_does_one_that_is_put_into_a_running_redis(edge: RunningEdge, admin: Redis) -> None:
    await beats(edge, 9)
    await looked_at(edge)
    copy = [(name, value) for name in admin.keys("*") if (value := admin.dump(name))]
    assert (await edge.client.put("team/app", "1.0", OURS)).status == 201
    admin.flushall()
    await beats(edge, 2)
    admin.flushall()
    for name, value in copy:
        admin.restore(name, 0, value)
    await beats(edge, 1)
    assert edge.parts.epoch.recovering() > 0
    await check_ours_stays(edge)


def tail(server: RedisServer) -> Path:
    (found,) = (server.directory / "appendonlydir").glob("*.incr.aof")
    return found


async def test_h106_the_end_of_the_append_only_file_is_lost(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    async with edge_over(registry.url, redis_server.url) as edge:
        await looked_at(edge)
        await beats(edge, 1)
        kept = tail(redis_server).stat().st_size
        assert (await edge.client.put("team/app", "1.0", OURS)).status == 201
        redis_server.kill()
        with tail(redis_server).open("r+b") as file:
            file.truncate(kept)
        redis_server.start()
        await reconnected(edge)
        await check_ours_stays(edge)
        assert edge.parts.epoch.recovering() == 0
        assert (await edge.client.push("team/app", "2.0", image("two"))).status == 201


async def test_h106_deletes_that_find_it_at_the_same_time_are_all_decided_anew(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    async with edge_over(registry.url, redis_server.url) as edge:
        await looked_at(edge)
        assert (await edge.client.put("team/app", "1.0", OURS)).status == 201
        others = [image(f"other {number}") for number in range(4)]
        for other in others:
            await edge.client.push("team/app", other.digest, other)
        redis_server.restart()
        await reconnected(edge)
        answers = await asyncio.gather(*(edge.client.ask("DELETE", path_of(pushed)) for pushed in (OURS, *others)))
        assert [answer.status for answer in answers] == [405, 202, 202, 202, 202]
