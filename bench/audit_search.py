"""Times every query that a page of the console makes, over audits of growing size, and what an event costs in Redis.

Usage, from the root of the repository: python bench/audit_search.py [EVENTS ...]   (default: 10000 100000 1000000)

Each size is a fresh Redis, filled by the script of the projector: 90 days of events and 5,000 repositories, one of
which gets a tag for every fiftieth event.  A figure is milliseconds of processor, Redis and this process together, the
mean of fifteen runs; in brackets the median time on the clock, which other work on the machine lengthens.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from itertools import chain

from immuproxy.ledger.audit import Audit, entries
from immuproxy.ledger.model import Event
from immuproxy.ledger.redis import Store, connect
from immuproxy.ledger.search import parse
from tests.ledger.audit_events import DAY_MS, fill, made_up_events
from tests.servers import running_redis

START = 1_700_000_000_000
END = START + 90 * DAY_MS
MANY_TAGS = "big/many-tags"
RUNS = 15
SEARCHES = (
    "outcome:refused",
    "repo:team-1/**",
    "repo:team-*/**",
    "tag:latest outcome:refused",
    "tag:v1.7*",
    "actor:ci-7 outcome:refused since:30d",
    "ip:10.3.0.0/16",
    "ip:10.3.1.7",
    "rule:releases outcome:refused action:delete-tag",
    "-outcome:created -outcome:unchanged",
    "until:60d repo:team-1/**",
    "digest:ab",
    "kernel",
    "words-that-never-occur",
    "repo:team-1/** words-that-never-occur",
)

Question = Callable[[], Awaitable[object]]


def events(count: int) -> Iterator[Event]:
    ordinary = made_up_events(count, start=START, days=90)
    tags = (
        replace(event, id=f"tags-{number}", repository=MANY_TAGS, tag=f"v{number % 7}.{number}", time=END + number)
        for number, event in enumerate(made_up_events(count // 50, seed=2, start=END))
    )
    return chain(ordinary, tags)


async def questions(audit: Audit) -> dict[str, Question]:
    """What the pages ask; the values are those of the newest event."""
    one = await anext(aiter(audit.export(parse("-repo:big/**", END))))
    busy = (await audit.repositories(order="events", limit=2)).repositories[-1].repository
    searches = {
        "all events": "",
        "`repo:REPOSITORY`": f"repo:{busy}",
        "`repo:REPOSITORY tag:latest`": f"repo:{busy} tag:latest",
        "`repo:REPOSITORY tag:v1*`, many tags": f"repo:{MANY_TAGS} tag:v1*",
        "`digest:DIGEST`": f"digest:{one.digest}",
    }
    searches |= {f"`{text}`": text for text in SEARCHES}

    def searching(text: str) -> Question:
        return lambda: audit.events(parse(text, END), limit=50)

    found: dict[str, Question] = {label: searching(text) for label, text in searches.items()}
    found["one event by its id"] = lambda: audit.event(one.id)
    found["history of a tag"] = lambda: audit.history(busy, "latest")
    for days in (1, 30, 90):
        found |= over(audit, days)
    for order in ("activity", "name", "events", "refusals"):
        found[f"repositories by {order}"] = lambda order=order: audit.repositories(order=order)  # type: ignore[misc]
    found["repositories with `team-3`"] = lambda: audit.repositories("team-3")
    found["tags of a repository, once read"] = lambda: audit.roster(MANY_TAGS)
    found["complete `repo:team-3`"] = lambda: audit.facet_values("repo", "team-3")
    found["complete `tag:v1`, one repository"] = lambda: audit.facet_values("tag", "v1", repository=MANY_TAGS)
    return found


def over(audit: Audit, days: int) -> dict[str, Question]:
    since = END - days * DAY_MS
    return {
        f"chart, {days} d": lambda: audit.counts(since, END, 60),
        f"top repositories, {days} d": lambda: audit.top("repo", since=since, until=END),
        f"top refused tags, {days} d": lambda: audit.top("tag", since=since, until=END, outcome="refused"),
    }


async def timed(store: Store, question: Question) -> str:
    await question()
    times, busy = [], await redis_seconds(store) + time.process_time()
    for _ in range(RUNS):
        started = time.perf_counter()
        await question()
        times.append((time.perf_counter() - started) * 1_000)
    busy = await redis_seconds(store) + time.process_time() - busy
    return f"{busy * 1_000 / RUNS:.1f} ({statistics.median(times):.1f})"


async def redis_seconds(store: Store) -> float:
    used = await store.client.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


async def memory(store: Store) -> int:
    found: dict[str, int] = await store.client.info("memory")
    return found["used_memory"]


async def measure(url: str, count: int) -> dict[str, str]:
    async with connect(url, timeout=30) as store:
        empty = await memory(store)
        started = time.perf_counter()
        total = await fill(store, events(count))
        rate = total / (time.perf_counter() - started)
        stream = await store.do(store.client.memory_usage(entries.EVENTS, samples=0))
        figures = {
            "Redis, bytes an event": f"{(await memory(store) - empty) / total:.0f}",
            "of which the stream": f"{int(stream) / total:.0f}",
            "projected, events a second": f"{rate:.0f}",
        }
        for name, question in (await questions(Audit(store))).items():
            figures[name] = await timed(store, question)
        return figures


def main(sizes: list[int]) -> None:
    columns = []
    for size in sizes:
        with running_redis() as server:
            columns.append(asyncio.run(measure(server.url, size)))
    print("| query | " + " | ".join(f"{size:,} events" for size in sizes) + " |")
    print("|---" * (len(sizes) + 1) + "|")
    labels = list(dict.fromkeys(label for column in columns for label in column))
    for label in labels:
        print(f"| {label} | " + " | ".join(column.get(label, "") for column in columns) + " |")


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [10_000, 100_000, 1_000_000])
