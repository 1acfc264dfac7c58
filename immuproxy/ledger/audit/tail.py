"""The live tail: one small question to Redis every moment, however many people watch."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from immuproxy.ledger.audit import cursors, entries, rows
from immuproxy.ledger.audit.cursors import OLDEST, Position, position
from immuproxy.ledger.audit.matching import RowTest, row_test
from immuproxy.ledger.audit.values import Arrival
from immuproxy.ledger.redis import LedgerUnavailableError, Store
from immuproxy.ledger.search import Search

EVERY_SECONDS = 0.25
_CHUNK = 200
_MOST_FAILURES = 3  # in a row; one or two are a restart
_KIND = "newer"

Entry = tuple[bytes, dict[bytes, bytes]]


def cursor_behind(place: Position) -> str:
    """What goes on behind a place: give it as ``after``."""
    return cursors.write_position(_KIND, place)


class Tail:
    """Watches the end of the stream while somebody is looking, and at no other time.

    Viewers hold a position, not a queue: one that reads slowly costs no memory and misses nothing.
    """

    def __init__(self, store: Store, every: float = EVERY_SECONDS) -> None:
        """``every``: seconds between two questions."""
        self._store = store
        self._every = every
        self._newest = OLDEST
        self._changed = asyncio.Condition()
        self._failure: LedgerUnavailableError | None = None
        self._viewers = 0
        self._watcher: asyncio.Task[None] | None = None

    def follow(self, search: Search, after: str) -> AsyncIterator[Arrival]:
        """See `Audit.tail`; raises `BadCursorError` at once."""
        return self._follow(row_test(search), cursors.read_position(_KIND, after) if after else None)

    async def end(self) -> Position:
        """The place of the newest event: all that comes later stands behind it."""
        newest = await self._store.do(self._store.client.xrevrange(entries.EVENTS, count=1))
        return position(newest[0][0]) if newest else OLDEST

    async def _follow(self, test: RowTest, start: Position | None) -> AsyncIterator[Arrival]:
        place = start if start is not None else await self.end()
        async with self._watching():
            while True:
                chunk = await self._read(place)
                for entry_id, fields in chunk:
                    place, row = position(entry_id), rows.row(rows.raw_of(fields))
                    if test(row) and (event := rows.event_of(row)):
                        yield Arrival(event, cursor_behind(place))
                if len(chunk) < _CHUNK:
                    await self._news_after(place)

    async def _read(self, place: Position) -> list[Entry]:
        found: list[Entry] = await self._store.do(
            self._store.client.xrange(entries.EVENTS, f"({place}", "+", count=_CHUNK)
        )
        return found

    async def _news_after(self, place: Position) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._failure is not None or self._newest > place)
            if self._failure:
                raise self._failure

    @contextlib.asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        self._viewers += 1
        if self._watcher is None:
            self._failure = None
            self._watcher = asyncio.create_task(self._watch(), name="audit tail")
        try:
            yield
        finally:
            self._viewers -= 1
            if not self._viewers and self._watcher is not None:
                self._watcher.cancel()
                self._watcher = None

    async def _watch(self) -> None:
        failures = 0
        # Not only until cancelled: redis-py can take a cancellation for a lost connection.
        while self._watcher is asyncio.current_task():
            newest = self._newest
            try:
                newest, failures = await self.end(), 0
            except LedgerUnavailableError as error:
                failures += 1
                if failures >= _MOST_FAILURES:
                    self._failure, self._watcher = error, None
            async with self._changed:
                # The end may also move back: a Redis restored from an older copy.
                if newest != self._newest or self._failure:
                    self._newest = newest
                    self._changed.notify_all()
            await asyncio.sleep(self._every)
