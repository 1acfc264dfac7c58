"""Searches give what a plain filter over all events gives, in the same order, whatever the pages."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import pairwise
from typing import Any

import pytest
import pytest_asyncio

from immuproxy.ledger import keys
from immuproxy.ledger.audit import Audit, BadCursorError, entries, plan, walk
from immuproxy.ledger.audit.audit import _EXPORT_PAGE
from immuproxy.ledger.audit.project import take
from immuproxy.ledger.model import Action, Event
from immuproxy.ledger.redis import Store, connect
from immuproxy.ledger.search import Search, Term, from_parameters, parse
from tests.ledger.audit_events import DAY_MS, fill, made_up_events
from tests.servers import RedisServer

START = 1_700_000_000_000
NOW = START + 10 * DAY_MS


@pytest_asyncio.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    async with connect(redis_server.url, timeout=5) as opened:
        yield opened


def naive_glob(term: Term, value: str) -> bool:
    if term.literal:
        return term.value == value
    wild = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*" if term.key == "repo" else ".*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", term.value)
    return re.fullmatch("".join(wild.get(part, re.escape(part)) for part in parts), value, re.DOTALL) is not None


def naive_term(term: Term, event: Event) -> bool:
    fields = {"repo": event.repository, "tag": event.tag, "actor": event.actor, "rule": event.rule}
    fields |= {"outcome": event.outcome, "action": event.action, "agent": event.user_agent}
    match term.key:
        case "text":
            shown = [
                value for name, value in event.to_dict().items() if isinstance(value, str) and name != "actor_source"
            ]
            joined = "\n".join([*shown, " ".join(event.platforms), f"{event.repository}:{event.tag}"])
            return term.value.casefold() in joined.casefold()
        case "digest":
            return any(digest.startswith(term.value) for digest in (event.digest, event.previous_digest))
        case "ip":
            return ip_address(event.client_address) in ip_network(term.value)
        case "id":
            return term.value in (event.id, event.request_id)
        case "shadow":
            return event.shadow == (term.value == "yes")
        case key:
            return naive_glob(term, fields[key])


def naive(search: Search, events: Sequence[Event]) -> list[str]:
    """Ids of what matches, newest first; ``events`` in the order in which they entered the audit."""
    found = []
    for event in reversed(events):
        if search.since and event.time < search.since.at:
            continue
        if search.until and event.time >= search.until.at:
            continue
        asked = {term.key for term in search.terms if not term.exclude and term.key != "text"}
        if all(any(naive_term(term, event) for term in search.values(key)) for key in asked) and all(
            naive_term(term, event) != term.exclude for term in search.terms if term.exclude or term.key == "text"
        ):
            found.append(event.id)
    return found


async def paged(audit: Audit, search: Search, limit: int) -> list[str]:
    """Every page of a search, one after the other."""
    found: list[str] = []
    cursor = ""
    while True:
        page = await audit.events(search, limit=limit, cursor=cursor)
        assert len(page.events) <= limit
        assert page.complete or page.next_cursor
        found += [event.id for event in page.events]
        cursor = page.next_cursor
        if not cursor:
            return found


def some_word(chance: random.Random, event: Event) -> str:
    repository = event.repository.split("/")
    return chance.choice(
        [
            f"repo:{event.repository}",
            f"repo:{repository[0]}/**",
            f"repo:{repository[0]}/*",
            f"repo:**/{repository[-1]}",
            f"repo:{event.repository[:-1]}?",
            "repo:nowhere/**",
            f"tag:{event.tag}",
            f"tag:{event.tag[:3]}*",
            f"-tag:{event.tag}",
            f"actor:{event.actor}" if event.actor else 'actor:""',
            f"-actor:{event.actor[:4]}*",
            f"outcome:{event.outcome}",
            f"outcome:{event.outcome}",
            f"-outcome:{event.outcome}",
            f"action:{event.action}",
            "action:delete-*",
            f'rule:"{event.rule}"',
            f'-rule:"{event.rule}"',
            f"ip:{event.client_address}",
            f"ip:{event.client_address}/16".replace("/16", chance.choice(["/8", "/12", "/22", "/25"])),
            f"digest:{event.digest}",
            f"digest:{event.digest[7:9]}",
            f"digest:{event.digest[7:8]}",
            f"id:{event.id}",
            f"id:{event.request_id}",
            f"agent:{event.user_agent[:4]}*",
            "shadow:yes",
            "shadow:no",
            f'"{event.tag.upper()}"',
            f'"{event.repository}:{event.tag}"',
            '"linux/arm64"',
            "nosuchword",
            f"since:{chance.randrange(1, 11)}d",
            f"until:{chance.randrange(0, 11)}d",
        ]
    )


def some_search(chance: random.Random, events: Sequence[Event]) -> Search:
    words = [some_word(chance, chance.choice(events)) for _ in range(chance.randrange(5))]
    unique = {word.partition(":")[0] if word.startswith(("since", "until")) else word: word for word in words}
    return parse(" ".join(unique.values()), NOW)


def with_late_events(events: Sequence[Event], chance: random.Random) -> list[Event]:
    """Some events enter the audit hours after they happened."""
    late = set(chance.sample(range(len(events) // 2), 60))
    on_time = [event for number, event in enumerate(events) if number not in late]
    at = len(on_time) * 2 // 3
    return [*on_time[:at], *(events[number] for number in sorted(late)), *on_time[at:]]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [1, 2])
async def test_random_searches_find_what_a_plain_filter_finds(
    store: Store, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small limits, so that a few thousand events go through every path that millions do.
    monkeypatch.setattr(plan, "FEW_KEYS", 4)
    monkeypatch.setattr(plan, "MOST_KEYS", 32)
    monkeypatch.setattr(walk, "MOST_READ", 90)
    monkeypatch.setattr(walk, "MOST_SCANNED", 400)
    monkeypatch.setattr(walk, "MOST_WORK", 600)
    chance = random.Random(seed)
    events = with_late_events(list(made_up_events(1_200, seed=seed, repositories=120, start=START, days=10)), chance)
    await fill(store, events)
    audit = Audit(store)
    matched = 0
    for _ in range(100):
        search = some_search(chance, events)
        expected = naive(search, events)
        matched += bool(expected)
        assert await paged(audit, search, chance.choice([9, 50, 400])) == expected, search.to_text()
    assert matched > 30


async def test_the_whole_result_is_exported(store: Store) -> None:
    events = list(made_up_events(1_300, repositories=20, start=START, days=10))
    await fill(store, events)
    search = parse("-outcome:failed", NOW)
    expected = naive(search, events)
    assert len(expected) > 2 * _EXPORT_PAGE
    assert [event.id async for event in Audit(store).export(search)] == expected


async def test_pages_do_not_shift_while_events_arrive(store: Store) -> None:
    events = list(made_up_events(600, repositories=5, start=START, days=10))
    await fill(store, events[:300])
    audit, search = Audit(store), parse("outcome:created", NOW)
    first = await audit.events(search, limit=40)
    numbered = [(f"{number}-2", entries.entry(event.to_dict())) for number, event in enumerate(events[300:], 1_000)]
    await audit.events(search, limit=1)
    await take(store, "made-up", "9999-0", numbered)
    second = await audit.events(search, limit=40, cursor=first.next_cursor)
    again = await audit.events(search, limit=40, cursor=first.next_cursor)
    expected = naive(search, events[:300])
    assert [event.id for event in first.events + second.events] == expected[:80]
    assert again == second
    assert [event.id for event in (await audit.events(search, limit=10)).events] == naive(search, events)[:10]


async def test_a_page_that_ends_exactly_at_the_end_has_no_cursor(store: Store) -> None:
    await fill(store, made_up_events(10, start=START))
    page = await Audit(store).events(Search(), limit=10)
    assert (len(page.events), page.next_cursor, page.complete) == (10, "", True)


async def test_a_search_that_finds_nothing_stops_and_says_how_far_it_came(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "MOST_SCANNED", 2_000)
    await fill(store, made_up_events(6_000, repositories=50, start=START, days=10))
    page = await Audit(store).events(parse("nosuchword", NOW), limit=10)
    assert (page.events, page.complete) == ((), False)
    assert page.next_cursor
    assert page.searched_to is not None
    assert START < page.searched_to < NOW


async def test_an_empty_audit_answers_every_question(store: Store) -> None:
    audit = Audit(store)
    assert (await audit.events(Search())).events == ()
    assert (await audit.events(parse("repo:a/** -outcome:refused", NOW))).events == ()
    assert await audit.event("x") is None
    assert await audit.total() == 0
    assert (await audit.counts(0, 10, 2)).series == ()
    assert await audit.top("repo", since=0, until=10) == []
    assert await audit.top("tag", since=0, until=10, outcome="refused") == []
    assert (await audit.repositories()).repositories == ()
    assert (await audit.roster("a")).tags == {}
    assert await audit.facet_values("tag") == []


async def test_one_event_is_found_by_its_id_and_by_its_request(store: Store) -> None:
    events = list(made_up_events(500, start=START))
    await fill(store, events)
    audit = Audit(store)
    assert await audit.event(events[77].id) == events[77]
    assert await audit.event(events[78].request_id) == events[78]
    assert await audit.event(events[77].id[:-1]) is None
    assert await audit.event("*") is None


async def test_a_tags_history(store: Store) -> None:
    events = list(made_up_events(800, repositories=4, start=START))
    await fill(store, events)
    audit, repository = Audit(store), events[0].repository
    history = await audit.history(repository, "latest", limit=1_000)
    expected = [event for event in reversed(events) if (event.repository, event.tag) == (repository, "latest")]
    assert list(history.events) == expected


async def test_events_that_two_tags_share_a_posting_with_are_not_mixed_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "bucket", lambda kind, *_: keys.audit(f"index:{kind}:0000"))
    events = list(made_up_events(400, repositories=3, start=START))
    await fill(store, events)
    audit = Audit(store)
    for event in events[::40]:
        search = from_parameters(NOW, repo=event.repository, tag=event.tag)
        assert await paged(audit, search, 50) == naive(search, events)
        assert await audit.event(event.id) == event


@pytest.mark.parametrize(
    "hostile", ["{audit}", "a*b?[c]", '"quoted" \\ back', "<script>", "=1+1", "x\ny", "\u2028", "'; --", "ß"]
)
async def test_hostile_text_is_only_text(store: Store, hostile: str) -> None:
    (event,) = made_up_events(1, start=START)
    strange = replace(event, repository=hostile, tag=hostile, actor=hostile, rule=hostile, user_agent=hostile)
    strange = replace(strange, client_address=hostile, digest=hostile, request_id=hostile)
    await fill(store, [replace(event, id="other"), strange])
    audit = Audit(store)
    for key in ("repo", "tag", "actor", "rule", "agent", "id"):
        found = await audit.events(Search().with_term(key, hostile))
        assert found.events == (strange,)
    assert (await audit.events(Search().with_term("text", hostile))).events == (strange,)
    assert [page.repository for page in (await audit.repositories(hostile.upper())).repositories] in ([hostile], [])
    assert {tally.value for tally in await audit.facet_values("tag", hostile[:1], repository=hostile)} == {hostile}


@pytest.mark.parametrize("word", ["straße", "STRASSE", "\N{KELVIN SIGN}elvin", "kelvin", "Été", "éTÉ"])
async def test_words_are_found_in_any_script_whether_or_not_an_index_points_at_them(store: Store, word: str) -> None:
    (event,) = made_up_events(1, start=START)
    texts = ("Hauptstraße 5", "\N{KELVIN SIGN}elvin", "Kelvin", "un ÉTÉ", "nothing")
    events = [replace(event, id=str(number), reason=text) for number, text in enumerate(texts)]
    await fill(store, events)
    for search in (f'"{word}"', f'"{word}" repo:{event.repository}'):
        assert await paged(Audit(store), parse(search, NOW), 10) == naive(parse(search, NOW), events)
        assert naive(parse(search, NOW), events)


async def test_a_union_that_spares_nothing_is_left_to_the_filter(store: Store) -> None:
    events = list(made_up_events(2_000, repositories=300, start=START, days=10))
    await fill(store, events)
    for text in ("repo:team-1*/** actor:ci-1* outcome:refused", "repo:team-*/** ip:10.0.0.0/8 tag:latest"):
        search = parse(text, NOW)
        assert await paged(Audit(store), search, 50) == naive(search, events)


async def test_a_foreign_cursor_is_refused(store: Store) -> None:
    with pytest.raises(BadCursorError):
        await Audit(store).events(Search(), cursor="bogus")


async def test_order_is_the_order_of_arrival_and_times_are_exact(store: Store) -> None:
    (event,) = made_up_events(1, start=START)
    early, late = replace(event, id="early", time=START), replace(event, id="late", time=START - 3_600_000)
    await fill(store, [early, late])
    audit = Audit(store)
    assert [found.id for found in (await audit.events(Search())).events] == ["late", "early"]
    before = from_parameters(START, until="30m")
    assert [found.id for found in (await audit.events(before)).events] == ["late"]
    assert [found.id for found in (await audit.events(from_parameters(START, since="30m"))).events] == ["early"]


async def test_postings_ascend(store: Store) -> None:
    chance = random.Random(3)
    events = list(made_up_events(300, start=START, days=0.0001))
    await fill(store, with_late_events(events, chance))
    raw: Any = await store.client.get(entries.posting("action", Action.PUSH))
    ids = [raw[at : at + 8] for at in range(0, len(raw), 8)]
    assert all(one < other for one, other in pairwise(ids))
    assert len(ids) == sum(event.action is Action.PUSH for event in events)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_long_postings_are_walked_from_anywhere(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    ids = sorted(chance.sample(range(1, 40_000), 4_000))
    sets = [set(chance.sample(ids, size)) for size in (4_000, 2_113, 321, 97)]
    async with store.client.pipeline(transaction=False) as pipeline:
        for number in ids:
            pipeline.xadd(entries.EVENTS, {"id": number}, id=f"{number // 4}-{number % 4}")
        for index, chosen in enumerate(sets):
            packed = b"".join(struct.pack(">HIH", 0, number // 4, number % 4) for number in sorted(chosen))
            pipeline.set(entries.posting("action", str(index)), packed)
        await pipeline.execute()
    for _ in range(400):
        groups = [chance.sample(range(4), chance.choice([1, 1, 2])) for _ in range(chance.choice([1, 2, 3]))]
        bound, floor = chance.randrange(40_000), chance.choice([0, chance.randrange(10_000)])
        matching = set(ids).intersection(*(set().union(*(sets[index] for index in group)) for group in groups))
        expected = [number for number in sorted(matching, reverse=True) if number <= bound and number // 4 >= floor][:5]
        names = [entries.posting("action", str(index)) for group in groups for index in group]
        arguments = [bound // 4, bound % 4, floor, 5, 100_000, 100_000, len(groups), *map(len, groups), 0]
        reply = await store.script("audit_walk", [entries.EVENTS, *names], arguments)
        assert [int(written) for _, written in reply[5]] == expected


@pytest.mark.parametrize("length", [1, 32, 33, 64, 97, 129, 193])
async def test_each_event_of_a_posting_is_found_from_its_own_place(store: Store, length: int) -> None:
    name, ids = entries.posting("action", "x"), range(10, 10 + length * 2, 2)
    async with store.client.pipeline(transaction=False) as pipeline:
        for number in ids:
            pipeline.xadd(entries.EVENTS, {"id": number}, id=f"{number}-0")
        pipeline.set(name, b"".join(struct.pack(">HIH", 0, number, 0) for number in ids))
        await pipeline.execute()
    for number in range(9, 10 + length * 2):
        reply = await store.script("audit_walk", [entries.EVENTS, name], [number, 7, 0, 1, 9, 100_000, 1, 1, 0])
        expected = [number - number % 2] if number > 9 else []
        assert [int(written) for _, written in reply[5]] == expected
