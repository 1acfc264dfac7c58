"""What a user of Redis may not do is found out before anything is written, and said (H98)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

import immuproxy
from immuproxy.console.sources import status_dict
from immuproxy.ledger.safety import Safety
from immuproxy.service.health import Health
from immuproxy.store.redis import Durability, LedgerRefusedError, LedgerUnavailableError, connect
from immuproxy.telemetry.metrics import Metrics
from tests.support.conversation import RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer

ALL = ("~immuproxy:*", "+@all", "-@dangerous", "+info", "+role")
NO_ROUND_TRIP = {"EVAL", "EVALSHA", "INFO", "PING", "PIPELINE", "EXECUTE", "EXECUTE_COMMAND", "ACLOSE", "INITIALIZE"}
NO_STEP_NEEDS = {"SCAN"}
"""Only for deleting what older releases left; where it may not be run, that stays."""

OF_THE_LIBRARY = NO_ROUND_TRIP | {"GET_NODE_FROM_KEY", "GET_PRIMARIES", "DELETE", "PUBSUB"}


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(redis_server.url) as client:
        yield client


def allow(admin: Redis, *rights: str) -> None:
    words: Any = ("ACL", "SETUSER", "proxy", "reset", "on", ">secret", *rights)
    admin.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped


def url_of(server: RedisServer) -> str:
    return f"redis://proxy:secret@127.0.0.1:{server.port}/0"


async def pushes_and_readiness(edge: RunningEdge, *, strict: bool = True) -> tuple[int, str, bool, str]:
    """What a push is answered, and whether a balancer is told that pushes can be taken."""
    safety = Safety(edge.store, strict=strict)
    await safety.look()
    health = Health(safety, edge.parts.epoch.clock, edge.parts.edge._upstream, Metrics())
    parts = await health.parts()
    answer = await edge.client.push("team/app", "1.0", image("one"))
    why = "" if answer.status == 201 else str(answer.error["message"])
    return answer.status, why, bool(status_dict(parts)["writes"]), parts[0].detail


@pytest.mark.parametrize("command", ["XADD", "EVAL", "HSET", "INFO", "ZMSCORE"])
async def test_h98_a_right_that_is_missing_is_named_and_nothing_is_written(
    registry: RegistryServer, redis_server: RedisServer, admin: Redis, command: str
) -> None:
    allow(admin, *ALL, f"-{command.lower()}")
    async with edge_over(registry.url, url_of(redis_server)) as edge:
        status, why, writes, detail = await pushes_and_readiness(edge)
        assert (status, writes) == (503, False)
        assert command in why
        assert command in detail
        assert not admin.keys("*:tag:*")
        allow(admin, *ALL)
        assert (await pushes_and_readiness(edge))[::2] == (201, True)


async def test_h98_a_right_that_goes_later_is_noticed_by_the_next_step(
    registry: RegistryServer, redis_server: RedisServer, admin: Redis
) -> None:
    allow(admin, *ALL)
    async with edge_over(registry.url, url_of(redis_server)) as edge:
        assert (await edge.client.push("team/app", "1.0", image("one"))).status == 201
        admin.client_kill_filter(user="proxy")
        allow(admin, *ALL, "-xadd")
        answers = [await edge.client.push("team/app", f"2.{n}", image("two")) for n in range(2)]
        assert [answer.status for answer in answers] == [503, 503]
        assert "XADD" in answers[1].error["message"]
        assert not admin.exists("immuproxy:{team/app}:tag:2.1")


async def test_h98_other_keys_are_no_concern(registry: RegistryServer, redis_server: RedisServer, admin: Redis) -> None:
    allow(admin, "~other:*", "+@all")
    async with edge_over(registry.url, url_of(redis_server)) as edge:
        status, why, writes, _ = await pushes_and_readiness(edge)
        assert (status, writes) == (503, False)
        assert "immuproxy:*" in why


async def test_h98_a_redis_that_cannot_wait_for_its_file_takes_no_pushes(redis_server: RedisServer) -> None:
    """WAITAOF came with Redis 7.2."""
    async with connect(redis_server.url, timeout=1, durability=Durability(aof=True)) as store:
        version = (await store.information())["redis_version"]
        if tuple(map(int, version.split(".")[:2])) >= (7, 2):
            await store.try_rights()
        else:
            with pytest.raises(LedgerRefusedError, match="WAITAOF"):
                await store.try_rights()


async def test_h98_out_of_memory_is_no_readiness_for_pushes(redis_server: RedisServer, admin: Redis) -> None:
    async with connect(redis_server.url, timeout=1) as store:
        await store.try_rights()
        admin.config_set("maxmemory", 1)
        with pytest.raises(LedgerUnavailableError, match="memory"):
            await store.try_rights()


def test_h98_every_command_that_is_used_is_tried() -> None:
    folder = Path(str(files(immuproxy)))
    scripts = {path.name: path.read_text() for path in folder.rglob("*.lua")}
    tried = set(re.findall(r"\{'([A-Z]+)'", scripts.pop("rights.lua")))
    used = set(re.findall(r"redis\.p?call\('([A-Za-z]+)'", "".join(scripts.values())))
    for path in folder.rglob("*.py"):
        used |= {name.upper() for name in re.findall(r"(?:client|pipeline)\.([a-z_]+)\(", path.read_text())}
    assert used - tried <= OF_THE_LIBRARY | NO_STEP_NEEDS
