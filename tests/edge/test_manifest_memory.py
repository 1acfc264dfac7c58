"""The memory of manifests by digest: bounded in bytes, filled from the ledger, which stays the one that knows."""

from __future__ import annotations

import asyncio

from immuproxy.edge.manifest_memory import OVERHEAD, ManifestMemory
from immuproxy.ledger import keys
from immuproxy.oci.manifests import OCI_MANIFEST
from tests.support.conversation import RunningEdge, sha256
from tests.support.servers import RedisServer

REPOSITORY = "team/app"
SIZE = 500


def body(number: int) -> bytes:
    return str(number).encode().ljust(SIZE)


async def store(edge: RunningEdge, number: int, media_type: str = OCI_MANIFEST) -> str:
    """As a commit leaves it."""
    digest = sha256(body(number))
    value = media_type.encode() + b"\n" + body(number)
    await edge.store.do(edge.store.client.hset(keys.manifests(REPOSITORY), digest, value))
    return digest


async def reads(edge: RunningEdge) -> int:
    told = await edge.store.do(edge.store.client.info("commandstats"))
    return int(told.get("cmdstat_hget", {"calls": 0})["calls"])


async def test_the_memory_has_room_for_so_many_bytes_and_forgets_what_was_not_asked_for_longest(
    edge: RunningEdge,
) -> None:
    memory = ManifestMemory(edge.parts.register, most=3 * (SIZE + OVERHEAD))
    digests = [await store(edge, number) for number in range(4)]
    for digest in (*digests[:3], digests[0], digests[3]):
        assert await memory.of(REPOSITORY, digest)
    before = await reads(edge)
    for number in (0, 2, 3):
        found = await memory.of(REPOSITORY, digests[number])
        assert found is not None
        assert found.body == body(number)
    assert await reads(edge) == before
    assert await memory.of(REPOSITORY, digests[1])
    assert await reads(edge) == before + 1


async def test_what_is_larger_than_the_memory_is_given_and_not_kept(edge: RunningEdge) -> None:
    memory = ManifestMemory(edge.parts.register, most=SIZE)
    digest = await store(edge, 1)
    for _ in range(2):
        assert await memory.of(REPOSITORY, digest)


async def test_a_manifest_is_read_once_for_all_who_ask_at_the_same_time(edge: RunningEdge) -> None:
    memory = ManifestMemory(edge.parts.register)
    digest = await store(edge, 1)
    before = await reads(edge)
    found = await asyncio.gather(*(memory.of(REPOSITORY, digest) for _ in range(100)))
    assert {each.body for each in found if each} == {body(1)}
    assert await reads(edge) == before + 1


async def test_the_same_digest_in_another_repository_is_another_one(edge: RunningEdge) -> None:
    memory = ManifestMemory(edge.parts.register)
    digest = await store(edge, 1)
    assert await memory.of(REPOSITORY, digest)
    assert await memory.of("other/app", digest) is None


async def test_h17_what_does_not_tell_its_digest_is_not_in_the_memory(edge: RunningEdge) -> None:
    memory = ManifestMemory(edge.parts.register)
    digest = await store(edge, 1, "application/vnd.docker.distribution.manifest.v1+prettyjws")
    assert await memory.of(REPOSITORY, digest) is None


async def test_a_ledger_that_is_away_has_no_copy(edge: RunningEdge, redis_server: RedisServer) -> None:
    memory = ManifestMemory(edge.parts.register)
    digest, known = [await store(edge, number) for number in range(2)]
    assert await memory.of(REPOSITORY, known)
    redis_server.kill()
    assert await memory.of(REPOSITORY, digest) is None
    assert await memory.of(REPOSITORY, known)
