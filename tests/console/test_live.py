from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientResponse

from immuproxy.console.audit.live import message
from immuproxy.ledger.model import Outcome
from tests.console.conftest import Console, Seed
from tests.console.events import HOSTILE, push


async def frames(response: ClientResponse) -> AsyncIterator[dict[str, str]]:
    """The server-sent events of an answer, comments left out."""
    frame: dict[str, str] = {}
    async for raw in response.content:
        line = raw.decode().rstrip("\n")
        if line:
            name, _, value = line.partition(": ")
            frame[name] = f"{frame[name]}\n{value}" if name == "data" and name in frame else value
        elif "event" in frame:
            yield frame
            frame = {}
        else:
            frame = {}


async def following(response: ClientResponse) -> dict[str, str]:
    async with asyncio.timeout(5):
        return await anext(frames(response))


def test_line_breaks_cannot_end_a_message() -> None:
    assert message("row", "a\r\nb\u2028c\n\nevent: x", "1-1").count(b"\n\n") == 1
    assert b"\ndata: event: x\n" in message("row", "a\nevent: x")


async def test_a_new_event_comes_by_itself(console: Console, seed: Seed) -> None:
    async with console.get("/api/v1/live", params={"q": "outcome:refused"}) as response:
        assert response.content_type == "text/event-stream"
        await seed([push(), push(Outcome.REFUSED, tag="2.0")])
        frame = await following(response)
    assert frame["event"] == "json"
    assert json.loads(frame["data"])["tag"] == "2.0"


async def test_as_a_row_it_is_the_row_of_the_page_with_hostile_text_as_text(console: Console, seed: Seed) -> None:
    async with console.get("/api/v1/live", params={"as": "row"}) as response:
        await seed([push(Outcome.REFUSED, actor=HOSTILE, reason=HOSTILE)])
        frame = await following(response)
    assert "<tr data-id=" in frame["data"]
    assert "<script>" not in frame["data"]


async def test_who_comes_back_misses_nothing(console: Console, seed: Seed) -> None:
    async with console.get("/api/v1/live") as response:
        await seed([push(tag="a", id="1")])
        frame = await following(response)
    await seed([push(tag="b", id="2")])
    async with console.get("/api/v1/live", headers={"Last-Event-ID": frame["id"]}) as response:
        assert json.loads((await following(response))["data"])["tag"] == "b"


async def test_what_came_since_the_page_was_made_comes_first(console: Console, seed: Seed) -> None:
    await seed([push(tag="old", id="1")])
    async with console.get("/api/v1/events") as response:
        page = await response.json()
    await seed([push(tag="b", id="2"), push(tag="c", id="3")])
    async with console.get("/api/v1/live", params={"after": page["live_cursor"]}) as response:
        stream = frames(response)
        async with asyncio.timeout(5):
            assert [json.loads((await anext(stream))["data"])["tag"] for _ in range(2)] == ["b", "c"]


async def test_the_page_names_the_place_where_its_tail_goes_on(console: Console, seed: Seed) -> None:
    await seed([push(tag=f"v{number}", id=str(number)) for number in range(3)])
    async with console.get("/api/v1/events", params={"limit": "2"}) as response:
        page = await response.json()
    async with console.get("/audit") as response:
        assert f"after={page['live_cursor']}" in await response.text()
    async with console.get("/api/v1/events", params={"cursor": page["next_cursor"]}) as response:
        assert (await response.json())["live_cursor"] is None


@pytest.mark.parametrize("query", [{"q": "a:b"}, {"after": "nonsense"}, {"as": "xml"}])
async def test_what_cannot_begin_is_an_error(console: Console, query: dict[str, str]) -> None:
    async with console.get("/api/v1/live", params=query) as response:
        assert response.status == 400


async def test_listeners_do_not_hold_up_the_end(console: Console) -> None:
    async with console.get("/api/v1/live") as response:
        assert (await response.content.readline()).startswith(b"retry")
        async with asyncio.timeout(3):
            await console.server.close()
        await response.read()
