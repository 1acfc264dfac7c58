"""Faults: servers that stand still, disks and memories that are full, a ledger that only reads.

The question is always the same: what is known stays right, what cannot be decided is 503 within seconds, and when the
fault has gone, everything goes on without anybody's help.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client

from tests.attack.arena import EVIL, REPOSITORY, RULES, SHORT, Arena, arena, held, prepared
from tests.attack.broken import Disk, needs_mounts, on_disk_of
from tests.support.conversation import Client, image, sha256
from tests.support.proxies import make_proxy, running_proxy
from tests.support.servers import RedisServer, RegistryServer, make_redis, make_registry, running, running_redis
from tests.support.wire import WireAnswer, request, wire

V1 = held()["v1"]
LAYER = V1.blobs[1]
LONGEST = 25.0
"""Seconds within which somebody who asks is told something."""

_numbers = count(1)

ACCEPT = ("Accept", V1.media_type)
TYPED = ("Content-Type", EVIL.media_type)
TAG = f"/v2/{REPOSITORY}/manifests/v1"
WRITES = {
    "overwrite": request("PUT", TAG, [TYPED], EVIL.body),
    "same-again": request("PUT", TAG, [("Content-Type", V1.media_type)], V1.body),
    "delete-by-tag": request("DELETE", TAG),
    "delete-by-digest": request("DELETE", f"/v2/{REPOSITORY}/manifests/{V1.digest}"),
    "delete-a-layer": request("DELETE", f"/v2/{REPOSITORY}/blobs/{sha256(LAYER)}"),
    "moving-tag": request("PUT", f"/v2/{REPOSITORY}/manifests/dev-x", [TYPED], EVIL.body),
    "several-tags": request("PUT", f"/v2/{REPOSITORY}/manifests/{EVIL.digest}?tag=dev-y&tag=v1", [TYPED], EVIL.body),
    "by-digest": request("PUT", f"/v2/{REPOSITORY}/manifests/{V1.digest}", [TYPED], V1.body),
}
READS = {
    "tag": request("GET", TAG, [ACCEPT]),
    "tag-head": request("HEAD", TAG, [ACCEPT]),
    "digest": request("GET", f"/v2/{REPOSITORY}/manifests/{V1.digest}", [ACCEPT]),
    "layer": request("GET", f"/v2/{REPOSITORY}/blobs/{sha256(LAYER)}"),
    "list": request("GET", f"/v2/{REPOSITORY}/tags/list"),
    "base": request("GET", "/v2/"),
}


async def ask_in_time(standing: Arena, raw: bytes) -> WireAnswer:
    began = time.monotonic()
    answer = await standing.edge(raw, seconds=LONGEST)
    assert time.monotonic() - began < LONGEST
    return answer


def is_right(name: str, answer: WireAnswer) -> bool:
    """A read that succeeds shows what the tag holds."""
    if answer.status != 200:
        return answer.status == 503
    if name in {"tag", "digest"}:
        return answer.body == V1.body
    return name != "tag-head" or answer.header("Docker-Content-Digest") == V1.digest


async def _push_problem(client: Client, tag: str) -> object:
    """What is still in the way of a push, if anything is."""
    try:
        answer = await client.push("prod/faults", tag, image(tag))
    except AssertionError as error:  # a blob was not taken
        return error
    return None if answer.status == 201 else answer


async def recovered(standing: Arena, *, seconds: float = 40.0) -> None:
    """Everything goes on by itself: pushes to new tags, to old ones, and reads."""
    tag = f"after-{next(_numbers)}"
    ends = time.monotonic() + seconds
    async with standing.client() as client:
        while (problem := await _push_problem(client, tag)) is not None:
            assert time.monotonic() < ends, f"pushes still get {problem}"
            await asyncio.sleep(0.1)
        assert (await client.put(REPOSITORY, "v1", EVIL)).status == 409
    await standing.unharmed()


@pytest.fixture(scope="module")
def short() -> Iterator[Arena]:
    with arena(more=SHORT) as standing, prepared(standing):
        yield standing


# --- standing still


@pytest.mark.attack_long
@pytest.mark.parametrize("name", [*WRITES, *READS])
async def test_a_registry_that_stands_still_stalls_nobody(short: Arena, name: str) -> None:
    short.registry.pause()
    try:
        answer = await ask_in_time(short, (WRITES | READS)[name])
    finally:
        short.registry.resume()
    if name in WRITES:
        assert answer.status in {409, 405, 503} or (name in {"same-again", "by-digest"} and answer.status == 201), (
            answer
        )
    else:
        assert is_right(name, answer), answer
    await recovered(short)


@pytest.mark.attack_long
@pytest.mark.parametrize("name", [*WRITES, *READS])
async def test_a_redis_that_stands_still_stalls_nobody(short: Arena, name: str) -> None:
    await short.reads_are_right()
    short.redis.pause()
    try:
        answer = await ask_in_time(short, (WRITES | READS)[name])
    finally:
        short.redis.resume()
    if name in WRITES:
        assert answer.status == 503, answer
        assert "Redis" in answer.error["message"]
    elif name == "tag-head":
        assert answer.status == 200
    else:
        assert answer.status == 200, answer
        assert is_right(name, answer)
    await recovered(short)


@pytest.mark.attack_long
@pytest.mark.parametrize("name", ["overwrite", "same-again", "moving-tag"])
async def test_a_proxy_that_stood_still_goes_on_where_it_was(short: Arena, name: str) -> None:
    async with wire(short.proxy.edge_port) as line:
        await line.send(WRITES[name][:-10])
        short.proxy.pause()
        await line.send(WRITES[name][-10:])
        await asyncio.sleep(0.5)
        short.proxy.resume()
        async with asyncio.timeout(LONGEST):
            answer = await line.answer("PUT")
    assert answer.status == {"overwrite": 409, "same-again": 201, "moving-tag": 201}[name]
    await recovered(short)


# --- a full disk


@pytest.fixture(scope="module")
def full_registry() -> Iterator[tuple[Arena, Disk]]:
    needs_mounts()
    with ExitStack() as stack:

        def make(where: Path) -> RegistryServer:
            return on_disk_of(make_registry(where), where / "storage", "6m")

        upstream = stack.enter_context(running(make, None))
        ledger = stack.enter_context(running_redis())
        proxy = stack.enter_context(running_proxy(upstream.url, {"url": ledger.url}, rules=RULES, more=SHORT))
        disk = Disk(upstream, upstream.storage)
        standing = Arena(dataclasses.replace(upstream, storage=disk.seen), ledger, proxy)
        yield stack.enter_context(prepared(standing)), disk


@pytest.mark.parametrize("name", [*WRITES, *READS])
async def test_a_registry_whose_disk_is_full_loses_nothing(full_registry: tuple[Arena, Disk], name: str) -> None:
    standing, disk = full_registry
    disk.fill()
    try:
        answer = await ask_in_time(standing, (WRITES | READS)[name])
    finally:
        disk.free()
    if name in READS:
        assert answer.status == 200
        assert is_right(name, answer)
    else:
        assert answer.status in {201, 405, 409, 503}, answer
        assert name in {"same-again", "by-digest", "moving-tag"} or answer.status != 201
    await recovered(standing)


async def test_a_first_push_onto_a_full_disk_can_be_tried_again(full_registry: tuple[Arena, Disk]) -> None:
    standing, disk = full_registry
    tag = f"full-{next(_numbers)}"
    raw = request("PUT", f"/v2/{REPOSITORY}/manifests/{tag}", [TYPED], EVIL.body)
    disk.fill()
    first = await ask_in_time(standing, raw)
    disk.free()
    assert first.status in {201, 503}, first
    again = await ask_in_time(standing, raw)
    assert again.status == 201, again
    assert standing.storage.tag(REPOSITORY, tag) == EVIL.digest
    await recovered(standing)
    async with asyncio.timeout(10):  # the audit shows it a moment later
        while not (told := await outcomes_of(standing, tag)).count("created"):
            await asyncio.sleep(0.1)
    assert told.count("created") == 1


async def outcomes_of(standing: Arena, tag: str) -> list[str]:
    found = (await standing.api(f"events?repository={REPOSITORY}&tag={tag}"))["events"]
    return [event["outcome"] for event in found]


@pytest.fixture(scope="module")
def full_redis() -> Iterator[tuple[Arena, Disk]]:
    needs_mounts()
    with ExitStack() as stack:

        def make(where: Path) -> RedisServer:
            data = where / "data"
            settings = {"dir": str(data), "auto-aof-rewrite-percentage": "0"}
            return on_disk_of(make_redis(where, more=settings), data, "6m")

        upstream = stack.enter_context(running(make_registry, None))
        ledger = stack.enter_context(running(make, None))
        proxy = stack.enter_context(running_proxy(upstream.url, {"url": ledger.url}, rules=RULES, more=SHORT))
        yield stack.enter_context(prepared(Arena(upstream, ledger, proxy))), Disk(ledger, ledger.directory / "data")


# --- a full memory


@contextmanager
def out_of_memory(server: RedisServer) -> Iterator[None]:
    with redis_client.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "1mb")
        try:
            yield
        finally:
            client.config_set("maxmemory", "0")


def refused_by_redis(name: str, answer: WireAnswer) -> None:
    if name in READS:
        assert answer.status == 200, answer
        assert is_right(name, answer)
    else:
        assert answer.status == 503, answer
        assert "Redis" in answer.error["message"]


@pytest.mark.parametrize("name", [*WRITES, *READS])
async def test_a_redis_without_memory_takes_nothing_and_keeps_everything(short: Arena, name: str) -> None:
    with out_of_memory(short.redis):
        answer = await ask_in_time(short, (WRITES | READS)[name])
    refused_by_redis(name, answer)
    await recovered(short)


async def test_a_first_push_without_memory_is_recorded_once_when_it_succeeds(short: Arena) -> None:
    tag = f"oom-{next(_numbers)}"
    raw = request("PUT", f"/v2/{REPOSITORY}/manifests/{tag}", [TYPED], EVIL.body)
    with out_of_memory(short.redis):
        assert (await ask_in_time(short, raw)).status == 503
        assert tag not in short.storage.tags(REPOSITORY)
        assert (await short.console(request("GET", "/audit"))).status == 200
    assert (await ask_in_time(short, raw)).status == 201
    told = (await short.api(f"events?repository={REPOSITORY}&tag={tag}"))["events"]
    assert [event["outcome"] for event in told] == ["created"]
    await recovered(short)


def _notice_the_full_disk(server: RedisServer) -> None:
    """Redis answers the first write that does not fit, and refuses those after it."""
    with redis_client.Redis.from_url(server.url) as client, pytest.raises(redis_client.ResponseError, match="MISCONF"):
        for _ in range(1000):
            client.incr("immuproxy:disk")


@pytest.mark.parametrize("name", [*WRITES, *READS])
async def test_a_redis_whose_disk_is_full_takes_nothing(full_redis: tuple[Arena, Disk], name: str) -> None:
    standing, disk = full_redis
    disk.fill()
    _notice_the_full_disk(standing.redis)
    try:
        answer = await ask_in_time(standing, (WRITES | READS)[name])
    finally:
        if standing.redis.is_running:
            disk.free()
    refused_by_redis(name, answer)
    await recovered(standing)


# --- a ledger that only reads


@pytest.fixture(scope="module")
def replica(short: Arena) -> Iterator[Arena]:
    """A second proxy whose Redis is a replica of the first one's."""
    more = {"replicaof": f"127.0.0.1 {short.redis.port}"}
    with running_redis(more=more) as following:
        with redis_client.Redis.from_url(following.url) as client:
            ends = time.monotonic() + 20
            while client.info("replication")["master_link_status"] != "up":
                assert time.monotonic() < ends
                time.sleep(0.02)

        def make(where: Path) -> Any:
            return make_proxy(
                where, short.registry.url, {"url": following.url}, rules=RULES, more=SHORT, ready_path="/healthz"
            )

        with running(make, None) as proxy:
            yield Arena(short.registry, following, proxy)


@pytest.mark.parametrize("name", [*WRITES, *READS])
async def test_a_proxy_on_a_replica_reads_and_does_not_write(replica: Arena, short: Arena, name: str) -> None:
    answer = await ask_in_time(replica, (WRITES | READS)[name])
    refused_by_redis(name, answer)
    replica.log_is_clean()
    await short.unharmed()
