"""Who asks for much, or for ever, leaves the others room (H88)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from time import monotonic
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import ClientResponse

from immuproxy.audit import Audit
from immuproxy.audit.search import Search
from immuproxy.console import long_answers
from immuproxy.console.audit import exports, live
from immuproxy.console.long_answers import RESTS, Share
from immuproxy.ledger.model import Event
from tests.console.conftest import Console
from tests.console.consoles import running_console
from tests.console.events import push
from tests.console.logging_in import PASSWORDS
from tests.support.servers import RedisServer, wait_until

PIECE = 50_000
Taken = list[int]


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> Taken:
    """Exports that never end by themselves; the bytes that each piece holds are noted."""
    taken: Taken = []

    async def pages(_: Audit, search: Search, *, filters: Search) -> AsyncIterator[Sequence[Event]]:
        while True:
            taken.append(PIECE)
            yield [push(reason="x" * PIECE)]
            await asyncio.sleep(0)

    monkeypatch.setattr(Audit, "export_pages", pages)
    return taken


@contextlib.contextmanager
def unread(url: str, path: str) -> Iterator[socket.socket]:
    where = urlsplit(url)
    with socket.create_connection((where.hostname, where.port)) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        yield client


def basic(who: str) -> dict[str, str]:
    return {"Authorization": aiohttp.encode_basic_auth(who, PASSWORDS[who])}


ANNA, VERA = basic("anna"), basic("vera")


async def refused(console: Console, path: str, who: dict[str, str]) -> str:
    """Why the answer is 429."""
    async with console.get(path, headers=who) as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "5")
        return str((await response.json())["error"]["message"])


async def opened(console: Console, path: str, who: dict[str, str], times: int) -> list[ClientResponse]:
    """Answers that have begun."""
    begun = [await console.get(path, headers=who) for _ in range(times)]
    assert {response.status for response in begun} == {200}
    return begun


@pytest.mark.parametrize(
    ("path", "what", "each"),
    [
        ("/api/v1/events.csv", "exports", exports.MOST_OF_ONE),
        ("/api/v1/live", "live tails", live.MOST_OF_ONE),
    ],
)
async def test_h88_one_viewer_does_not_take_what_is_meant_for_all(
    closed_console: Console, endless: Taken, path: str, what: str, each: int
) -> None:
    first, *_ = await opened(closed_console, path, ANNA, each)
    said = f"You have as many {what} open as one visitor may ({each}). Wait until one has ended, or end one."
    assert await refused(closed_console, path, ANNA) == said
    await opened(closed_console, path, VERA, 1)
    first.close()
    async with asyncio.timeout(5):  # who went away makes room
        while (await closed_console.get(path, headers=ANNA)).status != 200:
            await asyncio.sleep(0.01)


async def test_h88_all_together_take_no_more_than_there_is(
    closed_console: Console, endless: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closed_console.app[exports.OPEN], "_most", 3)
    await opened(closed_console, "/api/v1/events.csv", ANNA, 2)
    await opened(closed_console, "/api/v1/events.jsonl", VERA, 1)
    assert await refused(closed_console, "/api/v1/events.jsonl", VERA) == (
        "There are as many exports open as there may be (3). Try again in a moment."
    )


def test_h88_an_export_that_nobody_takes_is_not_made(redis_server: RedisServer, endless: Taken) -> None:
    with running_console(redis_server.url) as console, unread(console.url, "/api/v1/events.jsonl"):
        wait_until(lambda: endless, "the export to begin")
        made = 0
        while made < len(endless):
            made = len(endless)
            time.sleep(0.2)
        assert sum(endless) < 1_000_000


@pytest.mark.parametrize("path", ["/api/v1/events.csv", "/api/v1/events.jsonl"])
def test_h88_a_stalled_export_is_cut_and_makes_room(
    redis_server: RedisServer, endless: Taken, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(long_answers, "STALLED", 0.1)
    with running_console(redis_server.url) as console, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(unread(console.url, path)) for _ in range(exports.MOST_OF_ONE)]
        wait_until(lambda: get(console.url, path) == 200, "the stalled ones to end")
        with clients[0].makefile("rb") as sent:
            assert not sent.read().endswith(b"\r\n0\r\n\r\n"), "nobody may take it for the whole"


def get(url: str, path: str) -> int:
    """The status; the answer is not taken."""
    with unread(url, path) as client:
        return int(client.recv(100).split()[1])


async def test_a_head_alone_begins_nothing(console: Console, endless: Taken) -> None:
    for path in ("/api/v1/events.csv", "/api/v1/events.jsonl", "/api/v1/live"):
        async with console.head(path) as response:
            assert response.status == 405
    assert endless == []


async def test_what_is_made_for_all_takes_a_third_of_the_time() -> None:
    share, began, busy = Share(), monotonic(), 0.0

    def work() -> float:
        start = monotonic()
        while monotonic() - start < 0.002:
            pass
        return monotonic() - start

    busy = sum(await asyncio.gather(*(share.make(work) for _ in range(20))))
    assert monotonic() - began >= busy * (1 + RESTS)
