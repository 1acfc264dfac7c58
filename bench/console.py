"""Times every page of the console, and its JSON twin, over HTTP: on a young audit and on one a hundred times as large.

Usage, from the root of the repository: make bench-console, or
python bench/console.py [--runs N] [--only TEXT] [EVENTS ...]   (default: 10000 1000000)

Each size has a Redis of its own (append-only file on), 5,000 repositories with records, one of which holds 20,000 tags,
and a console started as `immuproxy serve --single` starts it, with all that runs beside it.  The sizes are asked in
turn, so that whatever else the machine does falls on both.  A page fails when its 95th percentile is above 300 ms, or
when its median is more than twice that of the smallest audit and above 20 ms; below that it is the machine that is
measured.  Where the large audit has more lines to show than the small one, the ratio says nothing and does not count;
so searches are chosen, and events planted, that fill the page in both.
Exits with 1 when a page fails.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.client
import json
import math
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from bench.loading import load
from bench.pages import EXPORTS, Page, Visit
from bench.world import MEDIA_TYPE, World, digest_of, manifest_of
from tests.support.proxies import ProxyServer, make_proxy
from tests.support.servers import RedisServer, free_port, running, running_redis, wait_until

LIMIT_MS = 300.0
RATIO = 2.0
FLOOR_MS = 20.0
SAME_LINES = 5
WARM_UPS = 2
EXPORT_SECONDS = 4.0
_RULES = """
default: immutable
rules:
  - {name: moving-tags, tags: [latest, main, "dev-*"], policy: mutable}
  - {name: releases, tags: ["semver:>=1.0.0"], policy: immutable}
"""

_LONGEST_BUILD = 1_800.0
"""Seconds that the index of the largest audit may take on a machine that has other work, too."""


class Console:
    """One console with its Redis, asked over one connection."""

    def __init__(self, count: int, proxy: ProxyServer, redis: RedisServer) -> None:
        self.count = count
        self._place = urlsplit(proxy.console_url)
        self._processes = (proxy.pid, redis.pid)
        self._line = self._open()

    def _open(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._place.hostname or "", self._place.port, timeout=60)

    def fetch(self, path: str) -> bytes:
        """The body; raises `RuntimeError` for anything but 200."""
        try:
            answer = self._asked(path)
        except http.client.RemoteDisconnected:  # ended while it was silent for as long as the larger audit was built
            self._line.close()
            answer = self._asked(path)
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}: {body[:300]!r}")
        return body

    def _asked(self, path: str) -> http.client.HTTPResponse:
        self._line.request("GET", path)
        return self._line.getresponse()

    def is_indexed(self) -> bool:
        """Whether all that is recorded can be searched."""
        return bool(json.loads(self.fetch("/api/v1/events?limit=1"))["index"]["complete"])

    def time(self, path: str) -> tuple[float, float]:
        """Milliseconds on the clock, and of processor (console and Redis together)."""
        busy, started = self._busy(), time.perf_counter()
        self.fetch(path)
        return (time.perf_counter() - started) * 1_000, (self._busy() - busy) / 1e6

    def _busy(self) -> int:
        return sum(
            int((task / "schedstat").read_text().split()[0])
            for pid in self._processes
            for task in Path(f"/proc/{pid}/task").iterdir()
        )

    def export(self, path: str) -> tuple[float, float]:
        """Milliseconds to the first bytes, and lines a second over some seconds."""
        line = self._open()
        started = time.perf_counter()
        line.request("GET", path)
        answer = line.getresponse()
        piece = answer.read1(65_536)
        first, lines = (time.perf_counter() - started) * 1_000, piece.count(b"\n")
        while piece and time.perf_counter() - started < EXPORT_SECONDS:
            piece = answer.read1(65_536)
            lines += piece.count(b"\n")
        took = time.perf_counter() - started
        line.close()
        return first, lines / took


@dataclass(slots=True)
class Figures:
    """What was measured of one page on one console."""

    clock: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    lines: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.clock)

    @property
    def p95(self) -> float:
        return sorted(self.clock)[math.ceil(0.95 * len(self.clock)) - 1]


@dataclass(slots=True)
class Row:
    """A page on every console, smallest audit first."""

    name: str
    figures: list[Figures]

    @property
    def ratio(self) -> float:
        return self.figures[-1].median / self.figures[0].median

    @property
    def more_lines(self) -> bool:
        """Whether the large audit shows noticeably more."""
        return self.figures[-1].lines > self.figures[0].lines + SAME_LINES

    @property
    def failure(self) -> str:
        if max(each.p95 for each in self.figures) > LIMIT_MS:
            return f"over {LIMIT_MS:.0f} ms"
        if self.ratio <= RATIO or self.figures[-1].median <= FLOOR_MS or self.more_lines:
            return ""
        return f"over {RATIO:.0f} times"

    def to_line(self) -> str:
        cells = [f"{each.median:.1f} | {each.p95:.1f} | {statistics.mean(each.busy):.1f}" for each in self.figures]
        more = f" ({self.figures[0].lines} to {self.figures[-1].lines} lines)" if self.more_lines else ""
        return " | ".join(["", self.name, *cells, f"{self.ratio:.2f}{more}", self.failure, ""]).strip()


def lines_of(body: bytes) -> int:
    """How many events or other things a page, or its twin, lists."""
    return body.count(b"<tr") or max(body.count(b'{"id":'), body.count(b'{"tag":'), body.count(b'{"repository":'))


def measure(pages: Sequence[Sequence[Page]], consoles: Sequence[Console], runs: int) -> Iterator[Row]:
    for same in zip(*pages, strict=True):
        row = Row(same[0].name, [Figures() for _ in consoles])
        for run in range(runs + WARM_UPS):
            for console, page, figures in zip(consoles, same, row.figures, strict=True):
                if not run:
                    figures.lines = lines_of(console.fetch(page.address))
                clock, busy = console.time(page.address)
                if run >= WARM_UPS:
                    figures.clock.append(clock)
                    figures.busy.append(busy)
        yield row


def exports(consoles: Sequence[Console]) -> Iterator[str]:
    for name, path in EXPORTS.items():
        found = [console.export(path) for console in consoles]
        cells = [f"{first:.0f} ms, {rate:,.0f}" for first, rate in found]
        yield " | ".join(["", name, *cells, ""]).strip()


def upstream(port: int) -> None:
    """A registry that holds what the records say, so that the sweep finds everything in order."""

    async def answer(request: web.Request) -> web.Response:
        repository, _, tag = request.path.removeprefix("/v2/").partition("/manifests/")
        if not tag:
            return web.json_response({})
        body = manifest_of(repository, tag)
        return web.Response(body=body, content_type=MEDIA_TYPE, headers={"Docker-Content-Digest": digest_of(body)})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


@contextlib.contextmanager
def running_upstream() -> Iterator[str]:
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=upstream, args=(port,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.join()


@contextlib.contextmanager
def running_console(count: int, upstream_url: str, directory: Path) -> Iterator[Console]:
    with running_redis(more={"auto-aof-rewrite-percentage": "0"}) as redis:
        started = time.perf_counter()
        load(redis.url, World(count, int(time.time() * 1_000)))
        say(f"{count:,} events loaded in {time.perf_counter() - started:.0f} s")
        make = functools.partial(
            make_proxy,
            upstream_url=upstream_url,
            redis={"url": redis.url},
            rules=_RULES,
            environment={"STATE_DIRECTORY": str(directory / f"state-{count}")},  # a file: memory has a bound
        )
        with running(make, directory / str(count)) as proxy:
            console, started = Console(count, proxy, redis), time.perf_counter()
            wait_until(console.is_indexed, "the index to hold all events", _LONGEST_BUILD)
            say(f"{count:,} events indexed in {time.perf_counter() - started:.0f} s")
            yield console


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def table(rows: Sequence[Row], consoles: Sequence[Console]) -> str:
    sizes = [f"{console.count:,}: median ms | p95 ms | processor ms" for console in consoles]
    head = " | ".join(["| page", *sizes, "ratio", "fails |"])
    return "\n".join([head, "|---" * (3 * len(consoles) + 3) + "|", *(row.to_line() for row in rows)])


def run(sizes: Sequence[int], runs: int, only: str) -> int:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ip-")))
        url = stack.enter_context(running_upstream())
        consoles = [stack.enter_context(running_console(size, url, directory)) for size in sorted(sizes)]
        pages = [[page for page in Visit(console.fetch).pages() if only in page.name] for console in consoles]
        say(f"{len(pages[0])} pages, {runs} runs each")
        rows = list(measure(pages, consoles, runs))
        load_now = ", ".join(f"{each:.1f}" for each in os.getloadavg())
        print(f"{time.strftime('%F')}, Python {platform.python_version()}, load {load_now}, {runs} runs\n")
        print(table(rows, consoles))
        if not only:
            print(
                "\n| export: first bytes, lines a second | " + " | ".join(f"{each.count:,}" for each in consoles) + " |"
            )
            print("|---" * (len(consoles) + 1) + "|")
            print("\n".join(exports(consoles)))
        failed = [row for row in rows if row.failure]
        print(f"\n{len(failed)} of {len(rows)} pages fail")
        return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sizes", metavar="EVENTS", nargs="*", type=int, default=[10_000, 1_000_000])
    parser.add_argument("--runs", type=int, default=15, help="times that each page is asked for")
    parser.add_argument("--only", default="", help="pages with this in their name")
    chosen = parser.parse_args()
    return run(chosen.sizes, chosen.runs, chosen.only)


if __name__ == "__main__":
    sys.exit(main())
