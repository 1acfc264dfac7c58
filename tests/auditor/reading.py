"""The audit as people read it: the API's pages, both exports, live tails, the pages of tags."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import time
from collections.abc import AsyncIterator, Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from redis.asyncio import Redis

from immuproxy.console.links import tag_url, with_query
from immuproxy.ledger import keys
from tests.auditor.views import Line, Views, read_row
from tests.invariants.aftermath import LONGEST_STAY
from tests.invariants.world import World

API = "/api/v1"
PAGE = 500
TRIES = 5
SETTLES = 60.0
"""Seconds after which nothing may be open any more; the proxies look every five or so."""


@dataclass
class Listener:
    """One live tail, which goes on at any proxy that runs where it was cut off."""

    world: World
    session: aiohttp.ClientSession
    cursor: str
    first: int
    heard: list[Line] = field(default_factory=list)

    async def listen(self) -> None:
        turn = self.first
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                await self._listen(self.world.proxies[turn % len(self.world.proxies)].console_url)
            turn += 1
            await asyncio.sleep(0.1)

    async def _listen(self, console: str) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_read=20)
        headers = {"Last-Event-ID": self.cursor}
        async with self.session.get(f"{console}{API}/live?as=json", headers=headers, timeout=timeout) as response:
            fields: dict[str, str] = {}
            async for raw in response.content:
                line = raw.decode().rstrip("\n")
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "data" in fields:
                    self.heard.append(json.loads(fields["data"]))
                    self.cursor, fields = fields["id"], {}


@contextlib.asynccontextmanager
async def listening(world: World, session: aiohttp.ClientSession) -> AsyncIterator[Sequence[Listener]]:
    """A listener at each proxy, from before the first event on."""
    first = await _json(session, world.proxies[0].console_url + with_query(f"{API}/events", limit=PAGE))
    listeners = [Listener(world, session, first["live_cursor"], number) for number in range(len(world.proxies))]
    for listener in listeners:
        listener.heard += reversed(first["events"])
    tasks = [asyncio.create_task(listener.listen()) for listener in listeners]
    try:
        yield listeners
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def settled(world: World, repositories: Iterable[str], damaged: Container[tuple[str, str]]) -> list[str]:
    """Wait until the proxies themselves have finished what was open; what stays open is wrong, but for contents that
    the registry says it has and cannot read.
    """
    await asyncio.sleep(LONGEST_STAY)
    left: dict[str, int] = {}
    until = time.monotonic() + SETTLES
    async with Redis.from_url(world.ledger.url) as client:
        asked: Any = client
        while time.monotonic() < until:
            left = {name: _open(name, await asked.hvals(keys.intents(name)), damaged) for name in repositories}
            if not any(left.values()):
                return []
            await asyncio.sleep(0.2)
    return [f"open: {count} requests of {repository}" for repository, count in left.items() if count]


def _open(repository: str, intents: Iterable[bytes], damaged: Container[tuple[str, str]]) -> int:
    return sum((repository, json.loads(intent)["digest"]) not in damaged for intent in intents)


async def read_views(
    world: World, session: aiohttp.ClientSession, listeners: Sequence[Listener], tags: Iterable[tuple[str, str]]
) -> Views:
    """The whole audit in all its forms; whatever is on its way has come when two readings agree."""
    console = world.proxies[-1].console_url
    listed = await _listed(session, console)
    until = time.monotonic() + SETTLES
    while time.monotonic() < until:
        await asyncio.sleep(1.0)
        again = await _listed(session, console)
        if again == listed and all(len(listener.heard) >= len(listed) for listener in listeners):
            break
        listed = again
    lines = (await _text(session, f"{console}{API}/events.jsonl")).splitlines()
    rows = csv.DictReader(io.StringIO(await _text(session, f"{console}{API}/events.csv"), newline=""))
    pages = {where: await _page_of(session, console, *where) for where in tags}
    return Views(
        listed=listed,
        lines=[json.loads(line) for line in lines],
        rows=[read_row(row) for row in rows],
        tailed=[tuple(listener.heard) for listener in listeners],
        pages=pages,
    )


async def _listed(session: aiohttp.ClientSession, console: str) -> list[Line]:
    return await _paged(session, f"{console}{API}/events", "events")


async def _page_of(session: aiohttp.ClientSession, console: str, repository: str, tag: str) -> list[Line]:
    return await _paged(session, console + tag_url(repository, tag, API), "history")


async def _paged(session: aiohttp.ClientSession, url: str, name: str) -> list[Line]:
    """All pages of a list, one after the other."""
    found: list[Line] = []
    cursor = ""
    while True:
        page = await _json(session, with_query(url, limit=PAGE, cursor=cursor))
        found += page[name]
        cursor = page["next_cursor"] or ""
        if not cursor:
            return found


async def _json(session: aiohttp.ClientSession, url: str) -> Any:
    return json.loads(await _text(session, url))


async def _text(session: aiohttp.ClientSession, url: str, tries: int = TRIES) -> str:
    """Asked again where a connection to Redis is only now found broken."""
    async with session.get(url) as response:
        text = await response.text()
    if response.status == 503 and tries:
        await asyncio.sleep(0.5)
        return await _text(session, url, tries - 1)
    assert response.status == 200, (url, response.status, text)
    return text
