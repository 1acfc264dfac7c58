"""No query reads more because there are more events: Redis itself counts its commands and what it sends.

Twenty times as many events may cost twice the commands and bytes, as a page may show more and an index has a few more
steps; a query that read the whole stream, or every posting, would cost twenty times as much.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from immuproxy.ledger.audit import Audit, walk
from immuproxy.ledger.redis import Store, connect
from immuproxy.ledger.search import parse
from tests.ledger.audit_events import DAY_MS, made_up_events
from tests.ledger.audit_loading import load
from tests.servers import RedisServer

FEW, MANY = 1_500, 30_000
DAYS = 60
START = 1_700_000_000_000 // DAY_MS * DAY_MS
NOW = START + DAYS * DAY_MS
REPOSITORIES = 40

MORE_COMMANDS, MORE_BYTES = 400, 60_000
"""What a query may cost beyond twice that of the small audit, where the work of a request stays below its limit."""

SEARCHES = (
    "",
    "outcome:created",
    "-outcome:created -outcome:unchanged",
    "action:delete-*",
    "repo:team-1/**",
    "repo:team-*/**",
    "-repo:team-1/**",
    "tag:latest",
    "tag:v1*",
    "tag:never-*",
    "repo:REPOSITORY tag:v1*",
    "digest:ab",
    "actor:ci-1",
    "actor:ci-1*",
    "rule:releases outcome:refused",
    "ip:10.3.1.7",
    "ip:10.3.0.0/16",
    "agent:docker/*",
    "agent:never",
    "shadow:yes",
    "since:30d until:29d",
    "until:50d repo:team-1/**",
    "kernel",
    "nosuchword",
    "nosuchword since:7d",
    "repo:team-1/** nosuchword",
    "repo:team-1/** actor:ci-7 outcome:refused",
    "actor:ci-7 rule:archive nosuchword",
    "actor:nobody",
)
Question = Callable[[Audit], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Cost:
    """Commands, those in scripts included, and bytes sent by Redis."""

    commands: int
    sent: int


@pytest_asyncio.fixture
async def stores(
    start_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Store, Store]]:
    # The share of work of a request, as many times smaller as the audits are.
    for name, most in (("MOST_READ", 100), ("MOST_SCANNED", 400), ("MOST_WORK", 800)):
        monkeypatch.setattr(walk, name, most)
    servers = start_redis(), start_redis()
    for server, count in zip(servers, (FEW, MANY), strict=True):
        events = made_up_events(count, repositories=REPOSITORIES, start=START, days=DAYS)
        await asyncio.to_thread(load, server.url, events)
    async with connect(servers[0].url, timeout=20) as few, connect(servers[1].url, timeout=20) as many:
        yield few, many


async def cost(store: Store, question: Question) -> Cost:
    """Of a question that was asked once before, so that what is remembered is not counted."""
    audit = Audit(store)
    await question(audit)
    await store.client.config_resetstat()
    await question(audit)
    commands: dict[str, Any] = await store.client.info("commandstats")
    sent: dict[str, Any] = await store.client.info("stats")
    ours = {"cmdstat_info", "cmdstat_config|resetstat"}
    return Cost(
        sum(int(each["calls"]) for name, each in commands.items() if name not in ours),
        int(sent["total_net_output_bytes"]),
    )


def searching(text: str) -> Question:
    return lambda audit: audit.events(parse(text, NOW), limit=30)


async def deep(audit: Audit) -> object:
    page = await audit.events(parse("outcome:created", NOW), limit=30)
    for _ in range(9):
        page = await audit.events(parse("outcome:created", NOW), limit=30, cursor=page.next_cursor)
    return page


async def questions(audit: Audit) -> dict[str, Question]:
    """What the pages ask; the values are those of the newest event."""
    (one,) = (await audit.events(parse("", NOW), limit=1)).events
    busy = (await audit.repositories(order="events", limit=1)).repositories[0].repository
    found = {text: searching(text.replace("REPOSITORY", busy)) for text in SEARCHES}
    found["a digest"] = searching(f"digest:{one.digest}")
    found["ten pages"] = deep
    found["one event"] = lambda audit: audit.event(one.id)
    found["history"] = lambda audit: audit.history(busy, "latest", limit=30)
    for days in (1, 7, DAYS):
        since = NOW - days * DAY_MS
        found[f"chart of {days} days"] = partial(Audit.counts, since=since, until=NOW, buckets=30)
        for field, outcome in (("repo", None), ("rule", None), ("tag", "refused"), ("actor", "refused")):
            ranking = partial(Audit.top, field=field, since=since, until=NOW, outcome=outcome)
            found[f"top {field} of {days} days"] = ranking
    for order in ("activity", "name", "events", "refusals"):
        found[f"repositories by {order}"] = partial(Audit.repositories, order=order, limit=20)
    found["complete repo"] = partial(Audit.facet_values, field="repo", prefix="team-1")
    found["complete tag"] = partial(Audit.facet_values, field="tag", prefix="v1")
    found["total"] = Audit.total
    found["end"] = Audit.end
    return found


def grown(small: Cost, large: Cost) -> bool:
    """Whether a query costs more in the large audit than its answer explains."""
    too_many = large.commands > 2 * small.commands + MORE_COMMANDS
    return too_many or large.sent > 2 * small.sent + MORE_BYTES


@pytest.mark.timeout(240)
async def test_no_query_costs_more_because_there_are_more_events(stores: tuple[Store, Store]) -> None:
    few, many = stores
    small = {name: await cost(few, question) for name, question in (await questions(Audit(few))).items()}
    large = {name: await cost(many, question) for name, question in (await questions(Audit(many))).items()}
    assert {name: (small[name], large[name]) for name in small if grown(small[name], large[name])} == {}


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("limit", "text"),
    [
        ("MOST_SCANNED", "nosuchword"),
        ("MOST_READ", "repo:team-1/** nosuchword"),
    ],
)
async def test_a_search_without_a_limit_to_its_work_would_be_noticed(
    stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch, limit: str, text: str
) -> None:
    for name in ("MOST_WORK", limit):
        monkeypatch.setattr(walk, name, 10**8)
    few, many = stores
    assert grown(await cost(few, searching(text)), await cost(many, searching(text)))
