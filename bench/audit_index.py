"""Builds the index of an audit of growing size from a real Redis, and times what pages ask of it.

Usage, from the root of the repository: python bench/audit_index.py [EVENTS ...]   (default: 10000 1000000)

90 days of events and 5,000 repositories.  The build is counted in seconds of this process's processor, reading Redis
included; a question in milliseconds on the clock, the median and the worst of seven, then of this process's processor,
the median.  Beside the build the event loop ticks, and tells how long the interpreter lock was kept from it.  What is
counted in processor time says something on a machine with other work, too.  Each figure is said when it is known.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from immuproxy.audit import views
from immuproxy.audit.audit import Audit
from immuproxy.audit.follow import Follower
from immuproxy.audit.index import Index
from immuproxy.audit.record.keys import EVENTS
from immuproxy.audit.search import Search, parse
from immuproxy.store.redis import Store, connect
from tests.audit.loading import Line, written
from tests.audit.made_up import DAY_MS, made_up_events
from tests.support.servers import running_redis

START = 1_700_000_000_000
END = START + 90 * DAY_MS
RUNS = 7
SEARCHES = (
    "",
    "outcome:refused",
    "repo:team-1/**",
    "repo:team-* actor:ci-*",
    "repo:team-*/** actor:ci-*",
    "repo:** actor:*",
    "repo:** agent:docker*",
    "tag:latest outcome:refused",
    "tag:v1.7*",
    "tag:*7-?",
    'tag:""',
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
    "0badc0de",
    "a",
)


class Figures(dict[str, str]):
    """Says each at once: the rest may take long."""

    def __setitem__(self, name: str, value: str) -> None:
        super().__setitem__(name, value)
        sys.stderr.write(f"{name}: {value}\n")


Question = Callable[[], Awaitable[object]]


def load(url: str, count: int) -> None:
    line = Line(url)
    for event in made_up_events(count, start=START):
        line.send(written(event))
    line.close()


async def timed(question: Question) -> str:
    await question()
    times, busy = [], []
    for _ in range(RUNS):
        begun, worked = time.perf_counter(), time.process_time()
        await question()
        times.append((time.perf_counter() - begun) * 1_000)
        busy.append((time.process_time() - worked) * 1_000)
    return f"{statistics.median(times):.1f} ({max(times):.1f}); {statistics.median(busy):.1f}"


async def tick(lags: list[float]) -> None:
    """Let go of the interpreter lock and take it again, as a loop that waits for sockets does, until cancelled.

    Notes how long others kept it each time, in milliseconds of this process's processor.
    """
    while True:
        await asyncio.sleep(0.01)
        begun = time.process_time()
        time.sleep(0)  # noqa: ASYNC251  # that is what is measured
        lags.append((time.process_time() - begun) * 1_000)


def kept(lags: list[float]) -> str:
    return f"{statistics.median(lags):.2f}, {statistics.quantiles(lags, n=100)[-1]:.1f}, {max(lags):.1f}"


async def pages(audit: Audit, search: Search) -> str:
    """How many pages it takes to the end, or to a thousand events, and how long."""
    cursor, count, found, begun = "", 0, 0, time.perf_counter()
    while found < 1_000:
        page = await audit.events(search, limit=50, cursor=cursor)
        cursor, count, found = page.next_cursor, count + 1, found + len(page.events)
        if not cursor:
            break
    return f"{count} pages, {found} events, {time.perf_counter() - begun:.2f} s"


def questions(audit: Audit, busy: str) -> dict[str, Question]:
    def searching(text: str) -> Question:
        return lambda: audit.events(parse(text, END), limit=50)

    found: dict[str, Question] = {f"`{text}`" if text else "all events": searching(text) for text in SEARCHES}
    found["history of a tag"] = lambda: audit.history(busy, "latest")
    for days, buckets in ((1, 48), (30, 60), (90, 90)):
        since = END - days * DAY_MS
        found[f"chart, {days} d"] = lambda s=since, b=buckets: audit.ask(views.chart, "attempt", s, END, b)  # type: ignore[misc]
        found[f"top repositories, {days} d"] = lambda s=since: audit.ask(views.top, "repo", since=s, until=END)  # type: ignore[misc]
        found[f"top refused tags, {days} d"] = lambda s=since: audit.ask(
            views.top,  # type: ignore[misc]
            "tag",
            since=s,
            until=END,
            outcome="refused",
        )
    found["repositories by activity"] = audit.repositories
    found["repositories with `team-3`"] = lambda: audit.repositories("team-3")
    found["tags of a repository"] = lambda: audit.tags(busy)
    found["complete `repo:team-3`"] = lambda: audit.ask(views.known_values, "repo", "team-3")
    found["complete `actor:ci`"] = lambda: audit.ask(views.known_values, "actor", "ci")
    return found


async def build(store: Store, folder: Path, count: int) -> dict[str, str]:
    index = Index(folder)
    await index.open()
    follower = Follower(store, index)
    lags: list[float] = []
    ticking = asyncio.ensure_future(tick(lags))
    begun, clock = time.process_time(), time.perf_counter()
    day = 0.0
    while await follower.step():
        if not day and (await Audit(index, follower).reach()).since:
            day = time.perf_counter() - clock
    ticking.cancel()
    figures = Figures()
    for name, value in {
        "built, s of processor": f"{time.process_time() - begun:.1f}",
        "built, s on the clock": f"{time.perf_counter() - clock:.1f}",
        "first events searchable after, s": f"{day:.2f}",
        "most memory, MB": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000:.0f}",
        "lock kept, ms: median, 99th percentile, most": kept(lags),
    }.items():
        figures[name] = value
    audit = Audit(index, follower)
    size = sum(file.stat().st_size for file in folder.iterdir())  # noqa: ASYNC240  # nothing else runs
    figures["bytes an event"] = f"{size / count:.0f}"
    busy = (await audit.repositories(order="events", limit=1)).repositories[0].repository
    for name, question in questions(audit, busy).items():
        figures[name] = await timed(question)
    for text in ("repo:team-* actor:ci-*", "repo:** agent:docker*", "words-that-never-occur", "0badc0de", "digest:ab"):
        figures[f"to the end: `{text}`"] = await pages(audit, parse(text, END))
    await index.close()
    return figures


async def measure(url: str, count: int) -> dict[str, str]:
    load(url, count)
    async with connect(url, timeout=30) as store:
        stream = int(await store.client.memory_usage(EVENTS, samples=0) or 0) / count
        with tempfile.TemporaryDirectory() as folder:
            figures = await build(store, Path(folder), count)
            figures["stream, bytes an event"] = f"{stream:.0f}"
            return figures


def main(sizes: list[int]) -> None:
    columns = []
    for size in sizes:
        with running_redis() as server:
            columns.append(asyncio.run(measure(server.url, size)))
    print("| query | " + " | ".join(f"{size:,} events" for size in sizes) + " |")
    print("|---" * (len(sizes) + 1) + "|")
    for label in dict.fromkeys(label for column in columns for label in column):
        print(f"| {label} | " + " | ".join(column.get(label, "") for column in columns) + " |")


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [10_000, 1_000_000])
