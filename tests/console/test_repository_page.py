"""The page of a repository: its tags in any order, filtered, page by page, and quick with twenty thousand of them."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from immuproxy.audit import Rosters
from immuproxy.audit.pruning import prune
from immuproxy.audit.record import Record
from immuproxy.audit.record import keys as record_keys
from immuproxy.audit.record.rows import entry
from immuproxy.console.app import make_console
from immuproxy.console.repositories import view
from immuproxy.console.repositories.tag_list import Chosen, TagQuery, choose
from immuproxy.console.sources import Sources
from immuproxy.ledger import keys
from immuproxy.ledger.model import Action, Outcome
from immuproxy.store.redis import Store
from tests.audit.following import followed
from tests.console.conftest import Console, Seed
from tests.console.events import digest, now, push

HERE = "/repositories/team/app"
API = "/api/v1/repositories/team/app"
TAGS = ("1.10.0", "1.9.0", "v2.0.0-rc.1", "latest", "dev-7", "evil")


@pytest.fixture
async def filled(console: Console, seed: Seed) -> Console:
    start = now() - 60_000
    actors = ("mira", "ci", "jonas", "ci", "", "eve")
    events = [
        push(
            Outcome.REFUSED if tag == "evil" else Outcome.CREATED,
            tag=tag,
            time=start + number,
            digest=digest(tag),
            actor=actor,
        )
        for number, (tag, actor) in enumerate(zip(TAGS, actors, strict=True))
    ]
    gone = push(Outcome.DELETED, action=Action.DELETE_TAG, tag="dev-7", time=start + 100)
    await seed([*events, gone])
    return console


async def shown(console: Console, query: str = "") -> list[str]:
    """The tags on the page, which its JSON says as well."""
    async with console.get(f"{HERE}?{query}") as response:
        text = await response.text()
        assert response.status == 200, text
    found = re.findall(r'<th scope="row"><a class="place" href="[^"]+/tags/([^"]+)"', text)
    assert [row["tag"] for row in (await said(console, query))["tags"]] == found
    return found


async def said(console: Console, query: str = "", status: int = 200) -> dict[str, Any]:
    async with console.get(f"{API}?{query}") as response:
        assert response.status == status
        answer: dict[str, Any] = await response.json()
        return answer


async def head(console: Console, query: str, label: str) -> tuple[str, str]:
    """A column's ``aria-sort`` and the address of its link."""
    async with console.get(f"{HERE}?{query}") as response:
        text = await response.text()
    found = re.search(rf'<th scope="col"(?: aria-sort="(\w+)")?><a class="sorts" href="([^"]+)">{label}<', text)
    assert found, label
    return found[1] or "", found[2].replace("&amp;", "&")


@pytest.mark.parametrize(
    ("query", "tags"),
    [
        ("", ["dev-7", "latest", "v2.0.0-rc.1", "1.9.0", "1.10.0", "evil"]),
        ("order=set", ["evil", "1.10.0", "1.9.0", "v2.0.0-rc.1", "latest", "dev-7"]),
        ("order=name", ["1.9.0", "1.10.0", "v2.0.0-rc.1", "dev-7", "evil", "latest"]),
        ("order=-name", ["latest", "evil", "dev-7", "v2.0.0-rc.1", "1.10.0", "1.9.0"]),
        ("order=by", ["evil", "1.9.0", "dev-7", "latest", "v2.0.0-rc.1", "1.10.0"]),
        ("order=state", ["1.9.0", "1.10.0", "v2.0.0-rc.1", "latest", "dev-7", "evil"]),
        ("order=rule&filter=e", ["dev-7", "latest", "evil"]),
        ("filter=.0&order=name", ["1.9.0", "1.10.0", "v2.0.0-rc.1"]),
        ("filter=1*&order=name", ["1.9.0", "1.10.0"]),
        ("state=deleted", ["dev-7"]),
        ("rule=moving&order=name", ["dev-7", "latest"]),
        ("rule=releases&state=free", ["evil"]),
        ("filter=none-such", []),
    ],
)
async def test_tags_are_ordered_and_filtered(filled: Console, query: str, tags: list[str]) -> None:
    assert await shown(filled, query) == tags


async def test_a_head_orders_by_its_column_and_a_second_click_turns_it_round(filled: Console) -> None:
    assert await head(filled, "", "Set") == ("descending", f"{HERE}?order=set")
    assert await head(filled, "", "Tag") == ("", f"{HERE}?order=name")
    assert await head(filled, "order=name", "Tag") == ("ascending", f"{HERE}?order=-name")
    assert await head(filled, "order=-name", "Tag") == ("descending", f"{HERE}?order=name")
    assert await head(filled, "order=name", "Set") == ("", HERE)


async def test_an_order_keeps_the_filter(filled: Console) -> None:
    _, href = await head(filled, "filter=1&state=moves&rule=releases", "By")
    assert href == f"{HERE}?filter=1&state=moves&rule=releases&order=by"


async def test_states_are_counted_as_if_none_were_chosen(filled: Console) -> None:
    counts = {row["state"]: row["count"] for row in (await said(filled, "state=free"))["states"]}
    assert counts == {"moves": 4, "deleted": 1, "free": 1}


async def test_pages_lead_on_and_back(filled: Console) -> None:
    first = await said(filled, "order=name&limit=2")
    assert first["previous_cursor"] is None
    second = await said(filled, f"order=name&limit=2&cursor={first['next_cursor']}")
    assert (second["first"], second["matching"], second["previous_cursor"]) == (3, 6, "")
    third = await said(filled, f"order=name&limit=2&cursor={second['next_cursor']}")
    assert third["next_cursor"] is None
    assert third["previous_cursor"] == first["next_cursor"]
    names = [row["tag"] for page in (first, second, third) for row in page["tags"]]
    assert names == await shown(filled, "order=name")


async def test_the_links_of_the_pages_keep_the_wish(filled: Console) -> None:
    async with filled.get(f"{HERE}?order=name&limit=2&filter=e") as response:
        text = await response.text()
    found = re.search(r'rel="next" href="([^"]+)"', text)
    assert found
    assert "filter=e&amp;order=name&amp;cursor=" in found[1]
    assert found[1].endswith("&amp;limit=2")


@pytest.mark.parametrize(
    "query", ["order=size", "state=lost", "limit=0", "cursor=x", "filer=a", f"filter={'a' * 301}", "rule=" + "r" * 301]
)
async def test_what_cannot_be_asked_is_an_error(filled: Console, query: str) -> None:
    assert (await said(filled, query, 400))["error"]["code"] == "bad_parameter"


async def test_a_cursor_of_another_order_is_an_error(filled: Console) -> None:
    cursor = (await said(filled, "order=name&limit=2"))["next_cursor"]
    assert (await said(filled, f"order=by&cursor={cursor}", 400))["error"]["parameter"] == "cursor"


async def test_a_new_push_shows_at_once(filled: Console, seed: Seed) -> None:
    await shown(filled)
    await seed([push(Outcome.OVERWRITTEN, tag="latest", digest=digest("newer"), actor="zoe")])
    row = (await said(filled, "order=-by&limit=1"))["tags"][0]
    assert (row["tag"], row["digest"], row["by"]) == ("latest", digest("newer"), "zoe")


async def test_tags_are_read_anew_only_when_one_of_them_changed(sources: Sources, seed: Seed, store: Store) -> None:
    await seed([push(Outcome.CREATED, tag="one", digest=digest("one"))])
    await store.client.zadd(keys.tags("team/app"), {"one": 5, "two": 7})
    versions = [(await sources.rosters.of("team/app")).version for _ in range(2)]
    assert versions == [1, 1]
    await store.client.zrem(keys.tags("team/app"), "one")
    freed = await sources.rosters.of("team/app")
    assert {tag: facts.held for tag, facts in freed.tags.items()} == {"one": 0, "two": 7}
    version = freed.version
    assert version > versions[0]
    await seed([push(Outcome.REFUSED, tag="three", digest=digest("three"))])
    assert set((await sources.rosters.of("team/app")).tags) == {"one", "two", "three"}
    assert (await sources.rosters.of("team/app")).version == version + 1


async def test_a_tag_is_listed_until_its_last_event_was_pruned(store: Store) -> None:
    early = push(Outcome.CREATED, tag="early", digest=digest("one"))
    record = Record(store)
    async with followed(store, None) as found:
        rosters = Rosters(store, found.audit)
        await record.append(early)
        await record.append(push(Outcome.CREATED, tag="late", time=early.time + 1))
        await found.until_all(2)
        assert list((await rosters.of("team/app")).tags) == ["late", "early"]
        async for _ in prune(store, early.time + 1):
            pass
        await found.until_all(1)
        assert list((await rosters.of("team/app")).tags) == ["late"]


async def test_a_tag_that_the_record_lost_is_listed_no_more(store: Store, tmp_path: Path) -> None:
    """Redis came back with an older copy: the index is built anew, and begins where the one before it began."""
    kept = push(tag="kept", digest=digest("one"))
    record = Record(store)
    async with followed(store, tmp_path) as found:
        rosters = Rosters(store, found.audit)
        await record.append(kept)
        await record.append(push(tag="lost", time=kept.time + 1))
        await found.until_all(2)
        assert list((await rosters.of("team/app")).tags) == ["lost", "kept"]
        client: Any = store.client
        ((newest, _),) = await client.xrevrange(record_keys.EVENTS, count=1)
        await client.xdel(record_keys.EVENTS, newest)
        await found.until_all(1)
        assert list((await rosters.of("team/app")).tags) == ["kept"]


async def test_the_last_tag_that_goes_is_a_change_too(sources: Sources, store: Store) -> None:
    """What was put in order for an earlier version would still be listed."""
    await store.client.zadd(keys.tags("team/app"), {"one": 5})
    before = (await sources.rosters.of("team/app")).version
    await store.client.zrem(keys.tags("team/app"), "one")
    after = await sources.rosters.of("team/app")
    assert not after.tags
    assert after.version > before
    assert (await sources.rosters.of("team/app")).version == after.version


async def test_others_are_answered_while_tags_are_chosen(
    sources: Sources, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whoever hangs up meanwhile leaves them to nobody else before that is done."""
    await seed([push(tag="one")])
    roster = await sources.rosters.of("team/app")
    loop, begun, turn = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def slow(*arguments: Any, **options: Any) -> Chosen:
        loop.call_soon_threadsafe(begun.set)
        assert turn.wait(5)
        return choose(*arguments, **options)

    monkeypatch.setattr(view, "choose", slow)
    page = asyncio.create_task(view.repository(sources, "team/app", TagQuery(), limit=10, cursor=""))
    await begun.wait()
    page.cancel()
    done, _ = await asyncio.wait({page}, timeout=0.1)
    assert not done
    assert roster.lock.locked()
    turn.set()
    with pytest.raises(asyncio.CancelledError):
        await page
    assert not roster.lock.locked()


MANY = 20_000
_QUICK = 1.0
"""Seconds of processor that a page may take: 0.15 to 0.4 by who else works.  `make bench-console` has the limit."""


async def many_tags(store: Store) -> None:
    """A repository as it would be after so many pushes, half of its tags held."""
    start = now() - MANY * 1000
    names = [f"{number % 9}.{number}.{number % 3}" if number % 2 else f"dev-{number:x}" for number in range(MANY)]
    pipeline = store.client.pipeline(transaction=False)
    for at in range(0, MANY, 1000):
        chunk = list(enumerate(names[at : at + 1000], at))
        times = {name: start + number * 1000 for number, name in chunk}
        pipeline.zadd(keys.tags("team/app"), {name: times[name] for number, name in chunk if number % 2})
        for number, name in chunk:
            told = push(tag=name, time=times[name], digest=digest(name), actor=f"ci-{number % 30}")
            written = entry(told.to_dict())
            pipeline.xadd(record_keys.EVENTS, {written.field: written.packed}, id=f"{times[name]}-0")
    await pipeline.execute()


async def test_a_repository_of_twenty_thousand_tags_is_quick_and_leaves_others_room(
    sources: Sources, store: Store
) -> None:
    await many_tags(store)
    assert len(await sources.audit.tags("team/app")) == MANY  # what follows is without the building of the index
    async with TestClient(TestServer(make_console(sources))) as console:
        await others_are_answered_while_they_are_read(console)
        for query in ("", "order=name", "order=rule", "order=-by", "filter=77", "state=moves&order=state"):
            assert (await said(console, query))["total"] == MANY
            began = time.process_time()
            async with console.get(f"{HERE}?{query}") as response:
                assert response.status == 200
                assert "of 20,000" in await response.text() or query not in {"", "order=name"}
            assert time.process_time() - began < _QUICK, query


async def others_are_answered_while_they_are_read(console: Console) -> None:
    longest, done = 0.0, asyncio.Event()

    async def beat() -> None:
        nonlocal longest
        while not done.is_set():
            began = time.process_time()
            await asyncio.sleep(0)
            longest = max(longest, time.process_time() - began)

    beating, began = asyncio.create_task(beat()), time.process_time()
    assert (await said(console, "order=rule"))["total"] == MANY
    whole = time.process_time() - began
    done.set()
    await beating
    assert longest < whole * 0.8  # one piece of several; in one piece it would be all of it
