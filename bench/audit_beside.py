"""How much slower pushes and pulls are while many search the audit of the same proxy, or while its index is built.

Usage, from the root of the repository: python bench/audit_beside.py [EVENTS]   (default: 200000)

The proxy and those who search share one process, as they do in service; pushes and pulls come from another one, one
after the other.  Milliseconds on the clock: the median and the 95th percentile of two hundred.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import aiohttp

from bench.audit_index import END, load
from immuproxy.audit import Audit, Follower, Index
from immuproxy.audit.search import parse
from immuproxy.store.redis import connect
from immuproxy.telemetry import logs
from tests.support.conversation import Client, edge_over, image
from tests.support.servers import running_redis, running_registry

PEOPLE = 10
RUNS = 200
WORST = (
    *("tag:*7-?", "0badc0de", "repo:team-*/** actor:ci-*", "actor:*9 tag:*8", "a", "-outcome:created"),
    *("words-that-never-occur", "agent:*go* tag:*x", "-repo:** tag:?", "until:60d deadbeef"),
)


async def client(url: str) -> None:
    """Pushes and pulls; prints the figures as JSON."""
    figures: dict[str, list[float]] = {"push": [], "pull": []}
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        asking, pushed = Client(url, session), image("one")
        await asking.blobs("bench/app", pushed)
        for number in range(RUNS):
            tag = f"{time.time_ns()}-{number}"
            for name, question in (
                ("push", partial(asking.put, "bench/app", tag, pushed)),
                ("pull", partial(asking.pull, "bench/app", tag)),
            ):
                begun = time.perf_counter()
                answer = await question()
                figures[name].append((time.perf_counter() - begun) * 1_000)
                if answer.status not in {200, 201}:
                    raise RuntimeError(f"{name}: {answer}")
    sys.stdout.write(json.dumps(figures))


async def measured(url: str) -> dict[str, list[float]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.audit_beside", "client", url, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    found: dict[str, list[float]] = json.loads(output)
    return found


@asynccontextmanager
async def beside(works: list[Callable[[], Awaitable[None]]]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(work()) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


def searching(audit: Audit, text: str) -> Callable[[], Awaitable[None]]:
    """Asks for page after page, and begins again at the end."""

    async def work() -> None:
        cursor = ""
        while True:
            cursor = (await audit.events(parse(text, END), limit=50, cursor=cursor)).next_cursor

    return work


def say(label: str, figures: dict[str, list[float]], alone: dict[str, list[float]]) -> None:
    cells = [label]
    for name, times in figures.items():
        median = statistics.median(times)
        ratio = median / statistics.median(alone[name])
        cells.append(f"{name}: {median:.1f} ({statistics.quantiles(times, n=20)[-1]:.1f}) ms, {ratio:.2f} times")
    sys.stdout.write("; ".join(cells) + "\n")
    sys.stdout.flush()


async def measure(count: int, folder: Path) -> None:
    with running_registry() as registry, running_redis() as server:
        load(server.url, count)
        async with edge_over(registry.url, server.url) as edge, connect(server.url, timeout=30) as store:
            url = f"http://127.0.0.1:{edge.port}"
            await measured(url)
            alone = await measured(url)
            say("alone", alone, alone)
            index = Index(folder)
            await index.open()
            follower = Follower(store, index)
            async with beside([follower.run]):
                say("while the index is built", await measured(url), alone)
                audit = Audit(index, follower)
                while not (await audit.reach()).complete:
                    await follower.change(follower.seen)
                say("with an index that follows", await measured(url), alone)
                async with beside([searching(audit, text) for text in WORST[:PEOPLE]]):
                    say(f"while {PEOPLE} search", await measured(url), alone)
            say("alone again", await measured(url), alone)
            await index.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["client"]:
        asyncio.run(client(sys.argv[2]))
    else:
        logs.configure(level="critical")
        with tempfile.TemporaryDirectory() as made:
            asyncio.run(measure(int(sys.argv[1]) if sys.argv[1:] else 200_000, Path(made)))
