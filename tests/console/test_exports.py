from __future__ import annotations

import asyncio
import csv
import io
import json
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

import aiohttp
import pytest
import structlog
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from immuproxy.audit import Audit
from immuproxy.audit.search import Search
from immuproxy.console.app import make_console
from immuproxy.console.audit import exports
from immuproxy.console.sources import Sources
from immuproxy.ledger.model import Event, Outcome
from immuproxy.store.redis import Store
from tests.audit.following import followed
from tests.console.conftest import Console, Seed
from tests.console.consoles import running_console
from tests.console.events import push
from tests.support.servers import RedisServer


@given(st.text(max_size=40))
def test_no_value_can_be_a_formula(text: str) -> None:
    shown = exports.harmless(text)
    assert shown.endswith(text)
    assert not shown.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r"))


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20), min_size=2, max_size=5))
def test_a_line_is_read_back_to_its_values(values: list[str]) -> None:
    (read,) = csv.reader(io.StringIO(exports.csv_line(values), newline=""))
    assert read == [exports.harmless(value) for value in values]


async def test_the_whole_search_as_csv(console: Console, seed: Seed) -> None:
    hostile = push(Outcome.REFUSED, actor="=HYPERLINK(1)", reason='one "two"\nthree', platforms=("linux/amd64", "a/b"))
    await seed([push(actor="ci"), hostile])
    async with console.get("/api/v1/events.csv", params={"q": "outcome:refused"}) as response:
        assert response.headers["Content-Disposition"].endswith('.csv"')
        (row,) = csv.DictReader(io.StringIO(await response.text(), newline=""))
    assert row["actor"] == "'=HYPERLINK(1)"
    assert row["reason"] == 'one "two"\nthree'
    assert row["platforms"] == "linux/amd64 a/b"
    assert row["time"].endswith("Z")
    assert list(row) == list(exports.COLUMNS)


async def test_the_whole_search_as_json_lines(console: Console, seed: Seed) -> None:
    events = [push(tag=f"1.{number}") for number in range(1200)]
    await seed(events)
    async with console.get("/api/v1/events.jsonl") as response:
        lines = (await response.text()).splitlines()
    assert [json.loads(line) for line in lines] == [event.to_dict() for event in reversed(events)]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
async def test_a_wrong_search_is_no_empty_export(console: Console, suffix: str) -> None:
    async with console.get(f"/api/v1/events.{suffix}", params={"q": "a:b"}) as response:
        assert response.status == 400
        assert (await response.json())["error"]["parameter"] == "q"


async def test_an_export_of_nothing_has_a_head_only(console: Console) -> None:
    async with console.get("/api/v1/events.csv") as response:
        assert (await response.text()).count("\r\n") == 1


async def test_what_was_found_is_sent_while_the_search_goes_on(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = asyncio.Event()

    async def pages(_: Audit, search: Search, *, filters: Search) -> AsyncIterator[Sequence[Event]]:
        yield ()
        yield [push(tag="first")]
        yield ()
        await go_on.wait()
        yield [push(tag="second")]

    monkeypatch.setattr(Audit, "export_pages", pages)
    monkeypatch.setattr(exports, "PATIENCE", 0.0)
    async with console.get("/api/v1/events.jsonl") as response, asyncio.timeout(5):
        assert json.loads(await response.content.readline())["tag"] == "first"
        go_on.set()
        assert json.loads(await response.content.readline())["tag"] == "second"


def test_who_goes_away_in_the_middle_is_no_failure(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    async def pages(_: Audit, search: Search, *, filters: Search) -> AsyncIterator[Sequence[Event]]:
        try:
            while True:
                await asyncio.sleep(0)
                yield [push(reason="x" * exports.CHUNK)]
        finally:
            ended.set()

    monkeypatch.setattr(Audit, "export_pages", pages)
    # Not the test server: that cancels what it serves when the client goes away.
    with running_console(redis_server.url) as console, structlog.testing.capture_logs() as logged:
        where = urlsplit(console.url)
        with socket.create_connection((where.hostname, where.port)) as client:
            client.sendall(b"GET /api/v1/events.jsonl HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
        assert ended.wait(10)
    assert logged == []


async def test_an_export_of_more_than_is_there_does_not_look_whole(sources: Sources, store: Store, seed: Seed) -> None:
    await seed([push(tag=f"1.{number}") for number in range(4000)])
    async with followed(store, None, memory_bytes=1 << 20) as found:

        async def is_full() -> bool:
            return found.follower.bounded

        await found.until(is_full)
        app = make_console(replace(sources, audit=found.audit))
        async with TestClient(TestServer(app)) as console, console.get("/api/v1/events.jsonl") as response:
            assert response.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
