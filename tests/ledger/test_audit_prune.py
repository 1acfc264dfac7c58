from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from immuproxy.ledger.audit import Audit, PruneProgress, entries
from immuproxy.ledger.redis import Store, connect
from immuproxy.ledger.search import Search, parse
from tests.ledger.audit_events import DAY_MS, fill, made_up_events
from tests.servers import RedisServer

START = 1_700_000_000_000
EVENTS = list(made_up_events(1_200, repositories=40, start=START, days=12))
KEPT = [event for event in EVENTS if event.time >= START + 9 * DAY_MS]
QUESTIONS = (
    "",
    "outcome:refused",
    "repo:team-1*/**",
    "tag:latest",
    f"digest:{KEPT[3].digest}",
    f"id:{KEPT[5].id}",
    f"repo:{KEPT[7].repository} tag:{KEPT[7].tag}",
    "shadow:yes",
)


@pytest_asyncio.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    async with connect(redis_server.url, timeout=5) as opened:
        yield opened


async def pruned(audit: Audit, before: int) -> list[PruneProgress]:
    return [progress async for progress in audit.prune(before)]


async def answers(store: Store) -> list[object]:
    """All that pages ask, by a reader that remembers nothing."""
    audit, end = Audit(store), START + 12 * DAY_MS
    found: list[object] = [await audit.events(parse(question, end), limit=30) for question in QUESTIONS]
    found += [await audit.repositories(order=order) for order in ("activity", "events", "refusals")]
    found += [await audit.counts(START + 9 * DAY_MS, end, 6), await audit.top("actor", since=START, until=end)]
    found += [await audit.facet_values(field) for field in ("repo", "actor", "ip")]
    found.append((await audit.roster(KEPT[0].repository)).tags)
    return found


async def keys_of(store: Store) -> dict[bytes, bytes | None]:
    return {
        key: await store.client.dump(key)
        async for key in store.client.scan_iter("*{audit}*")
        if not any(part in key for part in (b":events", b":hour:", b":day:", b":week:"))
    }


async def test_what_is_left_is_as_if_the_rest_had_never_been(store: Store, redis_server: RedisServer) -> None:
    await fill(store, KEPT)
    expected, expected_keys = await answers(store), await keys_of(store)
    await store.client.flushall()
    await fill(store, EVENTS)
    audit = Audit(store)
    progress = await pruned(audit, START + 9 * DAY_MS)
    assert await answers(store) == expected
    watermark = entries.WATERMARK.encode()
    found = await keys_of(store)
    assert found.keys() == expected_keys.keys()
    postings = [key for key in found if b":index:" in key and key != watermark]
    assert all(found[key] == expected_keys[key] for key in postings)
    assert progress[-1] == PruneProgress(progress[-1].steps, progress[-1].steps, len(EVENTS) - len(KEPT))
    assert [each.done for each in progress] == sorted(each.done for each in progress)
    assert await audit.total() == len(KEPT)


async def counts_of(store: Store) -> dict[bytes, object]:
    return {
        key: await store.client.zrange(key, 0, -1, withscores=True)
        for part in ("hour", "day", "week")
        async for key in store.client.scan_iter(f"*:{part}:*")
    }


@pytest.mark.parametrize("days", [4, 9])
async def test_counts_of_what_was_pruned_by_whole_days_are_as_if_it_had_never_been(store: Store, days: int) -> None:
    before = (START // DAY_MS + days) * DAY_MS
    await fill(store, [event for event in EVENTS if event.time >= before])
    expected = await counts_of(store)
    await store.client.flushall()
    await fill(store, EVENTS)
    await pruned(Audit(store), before)
    assert await counts_of(store) == expected
    await pruned(Audit(store), before)
    assert await counts_of(store) == expected


async def test_counts_of_whole_days_go_too(store: Store) -> None:
    await fill(store, EVENTS)
    await pruned(Audit(store), START + 9 * DAY_MS)
    days = [int(key.rpartition(b":")[2]) async for key in store.client.scan_iter("*:day:*")]
    hours = [int(key.rpartition(b":")[2]) async for key in store.client.scan_iter("*:hour:*")]
    assert min(days) >= (START + 9 * DAY_MS) // DAY_MS
    assert min(hours) >= (START + 9 * DAY_MS) // DAY_MS * 24


async def test_a_prune_that_was_interrupted_is_done_again(store: Store) -> None:
    await fill(store, EVENTS)
    audit = Audit(store)
    progress = audit.prune(START + 9 * DAY_MS)
    for _ in range(3):
        await anext(progress)
    await pruned(audit, START + 9 * DAY_MS)
    assert [event.id async for event in audit.export(Search())] == [event.id for event in reversed(KEPT)]


@pytest.mark.parametrize("before", [0, START])
async def test_nothing_old_is_nothing_to_do(store: Store, before: int) -> None:
    await fill(store, EVENTS[:50])
    progress = await pruned(Audit(store), before)
    assert progress[-1].removed == 0
    assert await Audit(store).total() == 50


async def test_everything_can_go(store: Store) -> None:
    await fill(store, EVENTS[:50])
    audit = Audit(store)
    await pruned(audit, START + 100 * DAY_MS)
    assert await audit.total() == 0
    assert (await audit.repositories()).repositories == ()
    await audit.append(EVENTS[60])
    assert [event async for event in audit.export(Search())] == [EVENTS[60]]
