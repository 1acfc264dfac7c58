"""How many tags and repositories each rule holds now: counted in the background, and remembered.

To count, the name of every tag is judged, and there may be millions.  So a count runs while somebody looks at the
rules, at a walk: it rests for as long as it works, and for `REST` times as long as it took before the next one begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import structlog
from aiohttp import web

from immuproxy.console.answers import SOURCES
from immuproxy.console.rules.table import Count
from immuproxy.console.sources import Sources
from immuproxy.rules.model import RuleSet
from immuproxy.store.redis import LedgerUnavailableError

REST = 20
SHORTEST_REST = 10.0
"""Seconds between two counts."""

PATIENCE = 0.25
"""Seconds that a page waits for a count that has just begun: in a small registry it is done by then."""

_SLICE = 100
"""Names judged between two looks at the clock."""

_WORK = 0.004
"""Seconds of work after which everybody else has a turn."""

_log = structlog.get_logger(__name__)


class Holdings:
    """The last count, and the one under way."""

    def __init__(self, sources: Sources) -> None:
        """Nothing is counted before the first look."""
        self._sources = sources
        self._last: Count | None = None
        self._task: asyncio.Task[None] | None = None
        self._rest_until = 0.0

    async def latest(self) -> Count | None:
        """The last count by the rules in force; None while the first is under way."""
        digest = self._sources.rules().rules.digest
        current = self._last is not None and self._last.rules == digest
        loop = asyncio.get_running_loop()
        if self._task is None and (not current or loop.time() > self._rest_until):
            self._task = loop.create_task(self._count())
        if self._task is not None and not current:
            await asyncio.wait({self._task}, timeout=PATIENCE)
        return self._last if self._last is not None and self._last.rules == digest else None

    async def close(self) -> None:
        """Stop counting."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _count(self) -> None:
        began = time.monotonic()
        try:
            self._last = await count(self._sources)
        except LedgerUnavailableError as error:
            _log.info("holdings_not_counted", reason=str(error))
        finally:
            took = time.monotonic() - began
            self._rest_until = asyncio.get_running_loop().time() + max(SHORTEST_REST, REST * took)
            self._task = None


async def count(sources: Sources) -> Count:
    """Judge the name of every tag that there is; raises `LedgerUnavailableError`."""
    rules = sources.rules().rules
    found = Count(rules.digest, sources.clock())
    walk = _Walk()
    for repository in await sources.register.repositories():
        held: Counter[str] = Counter()
        async for names in sources.register.standing_tags(repository):
            for at in range(0, len(names), _SLICE):
                held.update(_rules_of(rules, repository, names[at : at + _SLICE]))
                await walk.step()
        found.tags.update(held)
        found.repositories.update(held.keys())
    return found


def _rules_of(rules: RuleSet, repository: str, names: Sequence[str]) -> list[str]:
    return [rules.match(repository, name).name for name in names]


class _Walk:
    """Rests for as long as was worked, so that everybody else on the loop is served."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def step(self) -> None:
        worked = time.perf_counter() - self._since
        if worked > _WORK:
            await asyncio.sleep(worked)
            self._since = time.perf_counter()


HOLDINGS: web.AppKey[Holdings] = web.AppKey("holdings", Holdings)


async def _opened(app: web.Application) -> AsyncIterator[None]:
    app[HOLDINGS] = Holdings(app[SOURCES])
    yield
    await app[HOLDINGS].close()


def set_up(app: web.Application) -> None:
    """Put the counting into the console."""
    app.cleanup_ctx.append(_opened)
