"""Many requests at one moment: nobody is told that Redis is away, because everybody asks it (H82)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path

import aiohttp
import pytest
from multidict import CIMultiDict
from redis.asyncio import Connection

from immuproxy.edge.settings import Timeouts
from immuproxy.edge.upstream import opened
from immuproxy.ledger.model import TagRecord
from immuproxy.ledger.reader import Place
from immuproxy.ledger.register import Register
from immuproxy.oci.routes import RouteKind, build_path
from tests.support.conversation import Client, RunningEdge, edge_over, image
from tests.support.proxies import running_proxy
from tests.support.servers import RedisServer, RegistryServer
from tests.support.wire import Exchange, scripted

OURS, OTHER = image("ours"), image("other")


@pytest.fixture
def many_files() -> Iterator[None]:
    """Each request of a burst has a connection of its own, here and in the programs started from here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(20_000, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.asynccontextmanager
async def unlimited(url: str) -> AsyncIterator[Client]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(auto_decompress=False, connector=connector) as session:
        yield Client(url, session)


def tag_folders(registry: RegistryServer) -> Path:
    return registry.storage / "docker/registry/v2/repositories/team/app/_manifests/tags"


async def show(registry: RegistryServer, tags: Sequence[str]) -> None:
    """The registry holds both images, and shows `OURS` under each tag."""
    async with unlimited(registry.url) as direct:
        assert (await direct.push("team/app", tags[0], OURS)).status == 201
        assert (await direct.push("team/app", OTHER.digest, OTHER)).status == 201
    for tag in tags[1:]:
        shutil.copytree(tag_folders(registry) / tags[0], tag_folders(registry) / tag)


def drift(registry: RegistryServer, tags: Sequence[str]) -> None:
    """The registry shows `OTHER` under each tag."""
    for tag in tags:
        (tag_folders(registry) / tag / "current/link").write_text(OTHER.digest)


async def pulled(client: Client, tags: Iterable[str]) -> Counter[tuple[int, str]]:
    """What the tags give when they are pulled at one moment."""
    answers = await asyncio.gather(*(client.pull("team/app", tag) for tag in tags))
    return Counter((answer.status, answer.digest) for answer in answers)


async def test_h82_drifted_tags_pulled_together_from_a_fresh_proxy_all_give_what_was_committed(
    registry: RegistryServer, redis_server: RedisServer, many_files: None
) -> None:
    tags, right = [f"1.{number}" for number in range(300)], Counter({(200, OURS.digest): 300})
    await show(registry, tags)
    for drifted in (False, True):
        if drifted:
            drift(registry, tags)
        async with edge_over(registry.url, redis_server.url) as edge, unlimited(edge.client.url) as client:
            assert await pulled(client, tags) == right


@pytest.mark.timeout(180)  # seconds on two idle cores, nearly a minute on crowded ones
async def test_h82_two_thousand_pulls_and_six_hundred_pushes_at_one_moment_are_all_answered_right(
    registry: RegistryServer, redis_server: RedisServer, many_files: None
) -> None:
    held = [f"1.{number}" for number in range(100)]
    await show(registry, held)
    # A machine that gives Redis or the registry no time for so long shows nothing about the queue.
    patient = {"redis": {"timeout": "10s"}, "upstream": {"timeouts": {"manifest": "120s"}}}
    with running_proxy(registry.url, {"url": redis_server.url}, more=patient) as proxy:
        async with unlimited(proxy.url) as client:
            assert await pulled(client, held) == Counter({(200, OURS.digest): 100})
            pulls = asyncio.create_task(pulled(client, held * 20))
            refused = [client.put("team/app", tag, OTHER) for tag in held * 5]
            accepted = [client.put("team/app", f"2.{number}", OURS) for number in range(100)]
            pushed = await asyncio.gather(*refused, *accepted)
            assert await pulls == Counter({(200, OURS.digest): 2_000})
            unavailable = [line for line in proxy.log.splitlines() if "unavailable" in line]
            assert [answer.status for answer in pushed] == [409] * 500 + [201] * 100, unavailable


async def test_h82_a_proxy_that_stood_still_passes_nothing_that_it_does_not_know(
    registry: RegistryServer, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply of Redis is there all the time, and its time over when the proxy goes on."""
    await show(registry, ["1.0"])
    async with edge_over(registry.url, redis_server.url) as edge:
        assert (await edge.client.pull("team/app", "1.0")).status == 200
    drift(registry, ["1.0"])
    look, stalls = Register.records_at, [1]

    async def stalled(register: Register, places: Sequence[Place]) -> list[TagRecord]:
        if stalls:
            asyncio.get_running_loop().call_later(stalls.pop() / 1000, time.sleep, 0.5)
        return await look(register, places)

    monkeypatch.setattr(Register, "records_at", stalled)
    async with edge_over(registry.url, redis_server.url, redis_timeout=0.2) as edge:
        assert (await edge.client.pull("team/app", "1.0")).digest == OURS.digest
        assert not stalls


async def test_h82_a_proxy_short_of_files_passes_nothing_that_it_does_not_know(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real shortage would leave none for the client and the registry either."""
    await edge.direct.push("team/app", "1.0", OURS)
    monkeypatch.setattr(Connection, "_connect", no_file)
    await edge.store.client.connection_pool.disconnect()  # type: ignore[union-attr]  # it is no cluster
    answer = await edge.client.pull("team/app", "1.0")
    assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
    assert "more to do" in answer.error["message"]


async def no_file(_: object) -> None:
    raise OSError(errno.EMFILE, "Too many open files")


async def test_h82_whether_the_registry_answers_is_asked_beside_the_queue() -> None:
    """Behind 64 manifests that it does not give, it would seem to be away."""
    over = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        if exchange.target != "/v2/":
            await over.wait()
        await exchange.answer(200)

    async with scripted(script) as server, opened(server.url, timeouts=Timeouts()) as upstream:
        path = build_path(RouteKind.MANIFEST, "team/app", "1.0")
        stalled = [asyncio.create_task(upstream.exchange("GET", path, CIMultiDict())) for _ in range(80)]
        await asyncio.sleep(0.1)  # how many of them the queue lets through is not told
        async with asyncio.timeout(1):
            assert await upstream.status() == 200
        over.set()
        await asyncio.gather(*stalled)
