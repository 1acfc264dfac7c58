"""An index that does not hold all that is recorded: pages and API say so, once, and call nothing "nothing"."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from immuproxy.audit import Rosters, deadline, paging
from immuproxy.audit.follow import BATCH
from immuproxy.audit.index import MEMORY_BYTES, IndexFullError
from immuproxy.console.app import make_console
from immuproxy.console.drift.view import last_attempt
from immuproxy.console.sources import Sources
from immuproxy.ledger.model import Action, Event, Finding, Outcome
from immuproxy.store.redis import Store
from tests.audit.following import Followed, followed
from tests.console.conftest import Console, Seed
from tests.console.events import digest, now, push
from tests.support.servers import RedisServer

PAGES = (
    "/",
    "/?range=90d",
    "/audit",
    "/audit?q=outcome:refused",
    "/repositories",
    "/repositories?filter=team",
    "/drift",
    "/exceptions",
    "/rules",
)
OF_SOMETHING = (
    "/repositories/team/app",
    "/repositories/team/app/tags/1.0",
    f"/repositories/team/app/manifests/{digest('one')}",
)
SINGLE = ("/events/old", f"/compare?a=team/app:1.0&b=team/app@{digest('one')}")
OF_NOW = "of-now"
CLAIMS = re.compile(
    r"Nothing has (?!been compared)|Nothing matches|No repository|No tag yet|No pushes"
    r"|>None\.<|has never|ever drifted|Nobody has allowed|not used<"
)
OLD = push(Outcome.REFUSED, id="old", tag="1.0", digest=digest("one"), time=now() - 86_400_000)


@asynccontextmanager
async def looked_at(
    sources: Sources, store: Store, folder: Path | None = None, *, memory_bytes: int = MEMORY_BYTES
) -> AsyncIterator[tuple[Console, Followed]]:
    """A console over an index that follows only as far as the test wants."""
    async with followed(store, folder, running=False, memory_bytes=memory_bytes) as here:
        mine = replace(sources, audit=here.audit, rosters=Rosters(store, here.audit))
        async with TestClient(TestServer(make_console(mine))) as console:
            yield console, here


async def said(console: Console, path: str, status: int = 200) -> str:
    """What stands on the page, without its head."""
    async with console.get(path) as response:
        text = await response.text()
        assert response.status == status, (path, text)
        return unescape(text).partition("<body>")[2]


async def answered(console: Console, path: str) -> dict[str, Any]:
    async with console.get(path) as response:
        found: dict[str, Any] = await response.json()
        return found


async def index_of(console: Console, path: str) -> dict[str, Any]:
    found: dict[str, Any] = (await answered(console, path))["index"]
    return found


@pytest.mark.parametrize("path", [*PAGES, *OF_SOMETHING, *SINGLE])
async def test_before_anything_was_read_no_page_claims_that_there_is_nothing(
    sources: Sources, store: Store, seed: Seed, path: str
) -> None:
    await seed([OLD])
    async with looked_at(sources, store) as (console, here):
        if path in PAGES:
            text = await said(console, path)
            assert text.count("no events can be found or counted yet") == 1
        else:
            text = await said(console, path, 503)
        assert text.count("index is being built") == 1
        assert not CLAIMS.findall(text)
        await here.follower.step()
        assert "index is being built" not in await said(console, path, 404 if path.startswith("/compare") else 200)


@pytest.mark.parametrize("path", [*PAGES, *OF_SOMETHING])
async def test_while_it_is_built_each_page_says_once_how_far_back_it_reaches(
    sources: Sources, store: Store, seed: Seed, path: str
) -> None:
    last = now() - 10
    times = range(last - BATCH, last)
    await seed([OLD, *(push(repository="team/app", tag="2.0", digest=digest("one"), time=at) for at in times)])
    async with looked_at(sources, store) as (console, here):
        await here.follower.step()
        text = await said(console, path)
        assert text.count("The audit's index is being built") == 1
        assert text.count("counts and finds events back to") == 1
        assert not CLAIMS.findall(text)
        while await here.follower.step():
            pass
        assert "index is being built" not in await said(console, path)


async def test_an_index_that_is_behind_says_up_to_when_it_knows(
    sources: Sources, store: Store, seed: Seed, tmp_path: Path
) -> None:
    first = replace(OLD, id="first", repository="team/first")
    await seed([first])
    async with looked_at(sources, store, tmp_path) as (_, here):
        while await here.follower.step():
            pass
    later = [push(repository="team/app", tag="1.0", time=at) for at in range(now() - 2 * BATCH - 10, now() - 10)]
    await seed(later)
    async with looked_at(sources, store, tmp_path) as (console, here):
        for path in ("/", "/audit?q=repo:team/app", "/repositories"):
            text = await said(console, path)
            assert text.count("index is catching up: what follows counts and finds events up to") == 1
            assert not CLAIMS.findall(text)
        await said(console, "/events/nobody", 503)
        found = await index_of(console, "/api/v1/events")
        assert found == {"complete": True, "since": first.time, "until": first.time, "bounded": False, "failure": ""}
        await here.follower.step()
        assert here.follower.behind
        while await here.follower.step():
            pass
        assert "catching up" not in await said(console, "/")
        assert (await index_of(console, "/api/v1/events"))["until"] is None
        await said(console, "/events/nobody", 404)


async def test_an_event_that_was_recorded_a_moment_ago_is_not_called_missing(
    sources: Sources, store: Store, seed: Seed, tmp_path: Path
) -> None:
    """Nobody has told the index of it yet, so it does not know that it is behind."""
    await seed([OLD])
    async with looked_at(sources, store, tmp_path) as (console, here):
        while await here.follower.step():
            pass
        await seed([push(id=OF_NOW, time=now())])
        assert (await index_of(console, "/api/v1/events"))["until"] is None
        assert (await answered(console, f"/api/v1/events/{OF_NOW}"))["error"]["code"] == "audit_being_built"
        asked = asyncio.create_task(answered(console, f"/api/v1/events/{OF_NOW}"))
        await here.follower.step()
        assert (await asked)["event"]["id"] == OF_NOW


async def test_without_redis_nobody_knows_whether_an_event_is_missing(
    console: Console, redis_server: RedisServer, seed: Seed
) -> None:
    await seed([OLD])
    await said(console, "/events/old")
    redis_server.stop()
    await said(console, "/events/old")
    assert (await answered(console, "/api/v1/events/nobody"))["error"]["code"] == "ledger_unavailable"


@asynccontextmanager
async def full(sources: Sources, store: Store, seed: Seed) -> AsyncIterator[Console]:
    """A console over an index in memory that has no room for older events."""
    times = range(now() - 4_000, now())
    await seed([OLD, *(push(repository="team/app", tag="2.0", digest=digest("one"), time=at) for at in times)])
    async with looked_at(sources, store, memory_bytes=1 << 20) as (console, here):
        while await here.follower.step():
            pass
        assert here.follower.bounded
        yield console


async def test_an_index_that_is_full_says_so_and_is_not_called_unfinished(
    sources: Sources, store: Store, seed: Seed
) -> None:
    async with full(sources, store, seed) as console:
        for path in (*PAGES, *OF_SOMETHING):
            text = await said(console, path)
            assert text.count("has room for the newest events only: what follows counts and finds events back to") == 1
            assert "being built" not in text
            assert not CLAIMS.findall(text)
        index = await index_of(console, "/api/v1/events")
        assert (index["complete"], index["bounded"]) == (False, True)


async def test_what_a_full_index_has_no_room_for_is_not_promised_for_later(
    sources: Sources, store: Store, seed: Seed
) -> None:
    async with full(sources, store, seed) as console:
        text = await said(console, "/events/old", 503)
        assert "being built" not in text
        assert "audit.index" in text
        async with console.get("/api/v1/events/old") as response:
            assert (await response.json())["error"]["code"] == "audit_out_of_reach"
            assert "Retry-After" not in response.headers


async def test_a_search_ends_where_a_full_index_ends(sources: Sources, store: Store, seed: Seed) -> None:
    async with full(sources, store, seed) as console:
        path = "/api/v1/events?limit=500&q=tag:2.0"
        page = await answered(console, path)
        for _ in range(9):
            if page["next_cursor"]:
                page = await answered(console, f"{path}&cursor={page['next_cursor']}")
        assert page["next_cursor"] is None
        assert (page["complete"], page["searched_to"]) == (False, page["index"]["since"])
        assert "Search older events" not in await said(console, "/audit?q=tag:none")


async def test_an_index_that_cannot_be_begun_is_not_called_unfinished(
    sources: Sources, store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    async with looked_at(sources, store, folder) as (console, here):
        shutil.rmtree(folder)
        folder.write_text("in the way")
        with pytest.raises(IndexFullError):
            await here.follower.step()
        for path in ("/audit", "/repositories/team/app"):
            text = await said(console, path, 503)
            assert str(folder) in text
            assert "being built" not in text
        async with console.get("/api/v1/events") as response:
            error = (await response.json())["error"]
            assert (error["code"], str(folder) in error["message"]) == ("audit_unavailable", True)


@pytest.mark.parametrize("path", ["/overview?range=90d", "/repositories?filter=team", "/complete?q=repo:team"])
async def test_what_takes_too_long_is_no_answer_and_says_what_to_do(
    console: Console, seed: Seed, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    await seed([OLD, push(time=now())])
    assert (await answered(console, f"/api/v1{path}"))["index"]["complete"]
    monkeypatch.setattr(deadline, "SECONDS", -1.0)
    monkeypatch.setattr(deadline, "OPCODES", 1)
    error = (await answered(console, f"/api/v1{path}"))["error"]
    assert error["code"] == "audit_too_slow"
    assert "shorter time or a narrower filter" in error["message"]
    if "complete" not in path:
        assert (await said(console, path.replace("/overview", "/"), 503)).count("takes too long") == 1


def behind_others(wanted: str) -> list[Event]:
    """What a search comes to only after more events than one of its steps looks at."""
    return [
        replace(OLD, outcome=Outcome.CREATED, digest=wanted),
        *(push(repository="team/other", digest=wanted, time=now() - 5_000 + each) for each in range(300)),
        *(push(digest=digest("two"), time=now() - 4_000 + each) for each in range(300)),
    ]


@pytest.mark.parametrize(
    "path",
    [f"/compare?a=team/app@{digest('one')}&b=team/app@{digest('two')}", OF_SOMETHING[2]],
)
async def test_what_a_search_did_not_come_to_is_not_called_missing(
    console: Console, seed: Seed, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    await seed(behind_others(digest("one")))
    await answered(console, "/api/v1/events")
    monkeypatch.setattr(paging, "DEADLINE", -1.0)
    found = await answered(console, f"/api/v1{path}")
    assert "error" not in found
    assert [event["id"] for event in found.get("events", [])] in ([], ["old"])
    monkeypatch.setattr(deadline, "SECONDS", 0.0)
    assert (await answered(console, f"/api/v1{path}"))["error"]["code"] == "audit_too_slow"


async def test_a_failed_repair_that_a_search_did_not_come_to_is_told(
    sources: Sources, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = replace(OLD, action=Action.REPAIR, outcome=Outcome.FAILED)
    finding = Finding(OLD.tag, digest("two"), OLD.time - 1)
    others = [replace(tried, id=f"r{each}", tag="2.0", time=now() - 4_000 + each) for each in range(300)]
    await seed([tried, *(push(time=now() - 5_000 + each) for each in range(300)), *others])
    monkeypatch.setattr(paging, "DEADLINE", -1.0)
    assert await last_attempt(sources, OLD.repository, finding) == tried


async def test_without_redis_an_error_page_says_so_once(
    console: Console, redis_server: RedisServer, seed: Seed
) -> None:
    await seed([OLD])
    await said(console, "/audit")
    redis_server.stop()
    text = await said(console, "/repositories/team/app", 503)
    assert "New events do not arrive" not in text


@pytest.mark.parametrize(
    "path",
    [
        f"/api/v1{path}"
        for path in (
            *("/overview", "/events", "/repositories", "/drift", "/exceptions", "/rules", "/complete?q=repo:team"),
            *(f"/events/{OF_NOW}", *OF_SOMETHING),
        )
    ],
)
async def test_every_answer_from_the_index_says_how_far_it_reaches(
    sources: Sources, store: Store, seed: Seed, path: str
) -> None:
    granted = push(Outcome.GRANTED, action=Action.EXCEPTION, id=OF_NOW, time=now() - 2)
    last = now() - 10
    times = range(last - BATCH, last)
    await seed([OLD, *(push(repository="team/app", tag="1.0", digest=digest("one"), time=at) for at in times), granted])
    async with looked_at(sources, store) as (console, here):
        await here.follower.step()
        found = await index_of(console, path)
        assert (found["complete"], found["since"], found["until"], found["failure"]) == (False, times[1], None, "")
        while await here.follower.step():
            pass
        assert (await index_of(console, path))["complete"] is True
