"""Charts, rankings, completions and lists give what counting by hand gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
import pytest_asyncio

from immuproxy.ledger.audit import Audit, BadCursorError, RepositorySummary, tallies
from immuproxy.ledger.audit.calendar import HOUR_MS
from immuproxy.ledger.audit.entries import attempt
from immuproxy.ledger.model import Event, Outcome
from immuproxy.ledger.redis import Store, connect
from tests.ledger.audit_events import DAY_MS, fill, made_up_events
from tests.servers import RedisServer

START = 1_700_000_000_000 // DAY_MS * DAY_MS
END = START + 5 * DAY_MS
EVENTS = list(made_up_events(900, repositories=30, start=START, days=5))


@pytest_asyncio.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    async with connect(redis_server.url, timeout=5) as opened:
        yield opened


@pytest_asyncio.fixture
async def audit(store: Store) -> Audit:
    await fill(store, EVENTS)
    return Audit(store)


FIELDS: dict[str, Callable[[Event], str]] = {
    "outcome": lambda event: event.outcome.value,
    "action": lambda event: event.action.value,
    "attempt": lambda event: attempt(event.action, event.outcome),
    "repo": lambda event: event.repository,
    "actor": lambda event: event.actor,
    "rule": lambda event: event.rule,
    "tag": lambda event: f"{event.repository}:{event.tag}",
}


@pytest.mark.parametrize("field", ["outcome", "action", "attempt", "rule", "repo"])
async def test_a_chart_counts_each_bucket(audit: Audit, field: str) -> None:
    since, until = START + DAY_MS + 17, END - DAY_MS
    chart = await audit.counts(since, until, 7, field=field)
    assert (chart.edges[0], chart.edges[-1], len(chart.edges)) == (since, until, 8)
    for series in chart.series:
        times = [event.time for event in EVENTS if FIELDS[field](event) == series.value]
        expected = [sum(chart.edges[i] <= time < chart.edges[i + 1] for time in times) for i in range(7)]
        assert list(series.counts) == expected
    within = {FIELDS[field](event) for event in EVENTS if since <= event.time < until}
    assert {series.value for series in chart.series} == within
    assert sum(series.total for series in chart.series) == sum(since <= event.time < until for event in EVENTS)


@pytest.mark.parametrize(("action", "kind"), [("push", "push"), ("delete-tag", "delete"), ("delete-blob", "delete")])
def test_an_attempt_is_a_push_a_delete_or_something_else(action: str, kind: str) -> None:
    assert attempt(action, "refused") == f"{kind} refused"


async def test_what_shadow_rules_would_have_refused_is_counted(audit: Audit) -> None:
    since, until = START + DAY_MS + 17, END - DAY_MS
    assert await audit.shadowed(since, until) == sum(event.shadow and since <= event.time < until for event in EVENTS)


async def test_the_edges_of_a_chart_are_exact(audit: Audit) -> None:
    created = [event.time for event in EVENTS if event.outcome == "created"]
    for one in range(len(created) - 1):
        chart = await audit.counts(created[one], created[-1], 1)
        counts = {series.value: series.total for series in chart.series}
        assert counts["created"] == sum(created[one] <= time < created[-1] for time in created)


@pytest.mark.parametrize(("since", "until", "buckets"), [(5, 5, 3), (9, 5, 3), (-1, 5, 3), (0, 5, 0), (0, 5, 401)])
async def test_a_chart_that_makes_no_sense_is_refused(audit: Audit, since: int, until: int, buckets: int) -> None:
    with pytest.raises(ValueError, match="chart"):
        await audit.counts(since, until, buckets)


@pytest.mark.parametrize("field", ["repo", "actor", "rule"])
async def test_the_most_frequent_values_of_a_span(audit: Audit, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "_KEYS_A_CALL", 3)
    since, until = START + DAY_MS, END - DAY_MS
    counted = Counter(FIELDS[field](event) for event in EVENTS if since <= event.time < until and FIELDS[field](event))
    top = await audit.top(field, since=since, until=until, limit=6)
    assert [tally.count for tally in top] == [count for _, count in counted.most_common(6)]
    assert all(counted[tally.value] == tally.count for tally in top)


async def test_among_many_repositories_only_those_of_the_counters_are_compared(
    audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallies, "_MOST_COMPARED", 10)
    for since, until in ((START + DAY_MS + 17, END - DAY_MS), (START - 20 * DAY_MS, END), (START, START + 1)):
        counted = Counter(event.repository for event in EVENTS if since <= event.time < until)
        top = await audit.top("repo", since=since, until=until, limit=6)
        assert [tally.count for tally in top] == [count for _, count in counted.most_common(6)]
        assert all(counted[tally.value] == tally.count for tally in top)


async def test_weeks_are_counted_as_their_days_are(audit: Audit) -> None:
    since, until = START - 30 * DAY_MS, END + 30 * DAY_MS
    counted = Counter(FIELDS["tag"](event) for event in EVENTS if event.outcome == "refused")
    top = await audit.top("tag", since=since, until=until, outcome="refused", limit=5)
    assert [tally.count for tally in top] == [count for _, count in counted.most_common(5)]


@pytest.mark.parametrize("field", ["repo", "actor", "rule", "tag"])
@pytest.mark.parametrize("outcome", ["refused", "failed"])
async def test_the_most_refused_values_by_whole_hours(audit: Audit, field: str, outcome: str) -> None:
    since, until = START + DAY_MS - 5 * HOUR_MS + 1, END - DAY_MS - HOUR_MS
    first, last = since // HOUR_MS, (until - 1) // HOUR_MS
    counted = Counter(
        FIELDS[field](event)
        for event in EVENTS
        if event.outcome == outcome and first <= event.time // HOUR_MS <= last and FIELDS[field](event)
    )
    top = await audit.top(field, since=since, until=until, outcome=outcome, limit=5)
    assert [tally.count for tally in top] == [count for _, count in counted.most_common(5)]
    assert all(counted[tally.value] == tally.count for tally in top)


async def test_all_time_is_a_span_too(audit: Audit) -> None:
    (top,) = await audit.top("rule", since=0, until=END, outcome="refused", limit=1)
    assert top.count == max(Counter(event.rule for event in EVENTS if event.outcome == "refused").values())


async def test_what_is_not_counted_is_refused(audit: Audit) -> None:
    with pytest.raises(ValueError, match="choose one of"):
        await audit.top("tag", since=0, until=END)
    with pytest.raises(ValueError, match="choose one of"):
        await audit.top("tag", since=0, until=END, outcome="created")
    with pytest.raises(ValueError, match="choose one of"):
        await audit.counts(0, END, 3, field="tag")
    with pytest.raises(ValueError, match="choose one of"):
        await audit.facet_values("digest")
    with pytest.raises(ValueError, match="choose one of"):
        await audit.repositories(order="colour")


async def test_known_values_are_completed(audit: Audit) -> None:
    counted = Counter(event.repository for event in EVENTS)
    found = await audit.facet_values("repo", "TEAM-1", limit=100)
    assert {tally.value: tally.count for tally in found} == {
        name: count for name, count in counted.items() if "team-1" in name
    }
    last = {event.repository: event.time for event in EVENTS}
    assert all(tally.last == last[tally.value] for tally in found)
    assert [tally.value for tally in await audit.facet_values("outcome", "ref")] == ["refused"]
    assert [tally.value for tally in await audit.facet_values("rule", "bui")] == ["nightly builds"]


async def test_tags_are_completed_within_a_repository(audit: Audit) -> None:
    repository = EVENTS[-1].repository
    expected = {event.tag for event in EVENTS if event.repository == repository and event.tag.startswith("v1.")}
    found = await audit.facet_values("tag", "v1.", repository=repository, limit=1_000)
    assert {tally.value for tally in found} == expected
    assert await audit.facet_values("tag", "v1?", repository=repository) == []
    assert "latest" in {tally.value for tally in await audit.facet_values("tag", "lat")}


async def test_new_values_are_known_at_once_and_lost_ones_are_forgotten(audit: Audit, store: Store) -> None:
    assert await audit.facet_values("actor", "newcomer") == []
    await audit.append(replace(EVENTS[0], id="x", actor="newcomer"))
    assert [tally.value for tally in await audit.facet_values("actor", "newcomer")] == ["newcomer"]
    await store.client.flushall()
    assert await audit.facet_values("actor") == []
    await fill(store, EVENTS[:1])
    assert [tally.value for tally in await audit.facet_values("repo")] == [EVENTS[0].repository]


def summary(repository: str) -> RepositorySummary:
    own = [event for event in EVENTS if event.repository == repository]
    refused = sum(event.outcome == "refused" for event in own)
    return RepositorySummary(repository, len({event.tag for event in own}), len(own), refused, own[-1].time)


ORDERS: dict[str, Callable[[RepositorySummary], tuple[int, str]]] = {
    "activity": lambda row: (-row.last, row.repository),
    "name": lambda row: (0, row.repository),
    "events": lambda row: (-row.events, row.repository),
    "refusals": lambda row: (-row.refusals, row.repository),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("pattern", ["", "team-1", "team-*/*"])
async def test_repositories_page_by_page(audit: Audit, order: str, pattern: str) -> None:
    names = {event.repository for event in EVENTS}
    if pattern == "team-*/*":
        names = {name for name in names if name.count("/") == 1}
    expected = sorted((summary(name) for name in names if pattern == "team-*/*" or pattern in name), key=ORDERS[order])
    found: list[RepositorySummary] = []
    cursor = ""
    while True:
        page = await audit.repositories(pattern, order=order, limit=4, cursor=cursor)
        assert page.matching == len(expected)
        found += page.repositories
        cursor = page.next_cursor
        if not cursor:
            break
    assert found == expected


async def test_a_cursor_belongs_to_its_order(audit: Audit) -> None:
    page = await audit.repositories(order="name", limit=4)
    with pytest.raises(BadCursorError):
        await audit.repositories(order="events", limit=4, cursor=page.next_cursor)


async def test_sizes_of_repositories_are_remembered_until_they_change(audit: Audit, store: Store) -> None:
    first = await audit.repositories(order="events", limit=100)
    await store.client.config_resetstat()
    assert await audit.repositories(order="events", limit=100) == first
    statistics = await store.client.info("commandstats")
    assert statistics["cmdstat_strlen"]["calls"] <= 4  # of the repository that had the very last event
    changed = first.repositories[-1]
    for number in range(3):
        (old,) = (event for event in EVENTS[-1:])
        event = replace(old, id=f"new-{number}", repository=changed.repository, time=END)
        await audit.append(replace(event, outcome=Outcome.REFUSED if number else Outcome.CREATED))
        (row,) = (await audit.repositories(changed.repository, limit=1)).repositories
        assert (row.events, row.refusals) == (changed.events + number + 1, changed.refusals + number)


async def test_sizes_of_repositories_are_read_anew_after_a_prune(audit: Audit) -> None:
    await audit.repositories(order="events", limit=100)
    before = START + 3 * DAY_MS
    async for _ in audit.prune(before):
        pass
    found = {row.repository: row.events for row in (await audit.repositories(order="events", limit=100)).repositories}
    assert found == Counter(event.repository for event in EVENTS if event.time >= before)
