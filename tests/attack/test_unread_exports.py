"""Whoever asks for much and takes none of it delays nobody else (H88): on a real proxy with thousands of events."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import statistics
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

import aiohttp

from immuproxy.audit.record.project import take
from immuproxy.audit.record.rows import entry
from immuproxy.store.redis import connect
from tests.console.events import push
from tests.support.conversation import Client, image
from tests.support.proxies import running_proxy
from tests.support.servers import RedisServer, RegistryServer

EVENTS = 6_000
BATCH = 250
ATTACKERS = 20
READS = 80
EVERY = 0.02
MOST_SLOWED = 1.5
TRIES = 3
"""The machine does other things meanwhile; without the limits the ratio was some 500."""


async def fill(redis_url: str) -> None:
    async with connect(redis_url, timeout=5.0) as store:
        mark = ""
        for start in range(0, EVENTS, BATCH):
            written = [entry(push(tag=f"1.{number}", reason="x" * 700).to_dict()) for number in range(BATCH)]
            assert await take(store, "made-up", written, mark=mark, becomes=f"{start + 1}-0") == (
                BATCH,
                f"{start + 1}-0",
            )
            mark = f"{start + 1}-0"


async def median_of_reads(client: Client) -> float:
    """Seconds.  Reads begin at a steady pace, whether those before them are answered or not, as those of others do."""

    async def read(at: float) -> float:
        await asyncio.sleep(at)
        began = perf_counter()
        assert (await client.pull("team/app", "1.0")).status == 200
        return perf_counter() - began

    return statistics.median(await asyncio.gather(*(read(number * EVERY) for number in range(READS))))


@contextlib.contextmanager
def unread(console: str, *paths: str) -> Iterator[None]:
    """Many connections that ask for something and read none of it."""
    where = urlsplit(console)
    with contextlib.ExitStack() as stack:
        for path in paths * ATTACKERS:
            one = stack.enter_context(socket.create_connection((where.hostname, where.port)))
            one.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        yield


async def test_h88_exports_that_nobody_takes_delay_no_pull(
    registry: RegistryServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    await fill(redis_server.url)
    with running_proxy(registry.url, {"url": redis_server.url}, tmp_path) as proxy:
        async with aiohttp.ClientSession() as session:
            client = Client(proxy.url, session)
            assert (await client.push("team/app", "1.0", image("one"))).status == 201
            await median_of_reads(client)
            ratios: list[float] = []
            while len(ratios) < TRIES and min(ratios, default=MOST_SLOWED) >= MOST_SLOWED:
                before = await median_of_reads(client)
                with unread(proxy.console_url, "/api/v1/events.csv", "/api/v1/events.jsonl"):
                    attacked = await median_of_reads(client)
                ratios.append(attacked / max(before, await median_of_reads(client)))
            assert min(ratios) < MOST_SLOWED, ratios
