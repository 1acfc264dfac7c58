"""The audit for a command, which keeps no index: out of the one that a proxy keeps on this machine, and the stream.

What that index has is asked there.  The rest (what is newer, what it does not have yet, or all of it where there is
none) is walked by in the stream: batch by batch it is taken into an index that lives as long as the question.  So one
and the same search says what matches, wherever the events are, and nothing depends on a proxy that runs.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import TypeVar

from immuproxy.audit import conditions, paging, past, schema, stream, views
from immuproxy.audit.deadline import OutOfTimeError
from immuproxy.audit.index import ask_at_once, look_in
from immuproxy.audit.paging import FoundEvent
from immuproxy.audit.search import Search
from immuproxy.audit.stream import Raw
from immuproxy.audit.writing import Writer
from immuproxy.ledger.model import Event
from immuproxy.store.redis import Store

BATCH = 1_000
"""Events of the stream that are looked at together."""

_VALUES = tuple(key for key in conditions.COLUMN_OF if key != "ip")
"""Keys whose exact values stand in an event as they are written."""

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Told how many events of the stream were walked by, and how many there are."""


def _nobody(_done: int, _total: int) -> None:
    """Nobody looks on."""


@dataclass(slots=True)
class _Kept:
    """The index of a proxy; it has the events from ``low`` to ``high``, and maybe newer ones by now."""

    connection: sqlite3.Connection
    low: int = 0
    high: int = 0

    async def ask(self, question: Callable[[sqlite3.Connection], T]) -> T | None:
        """Ask of one moment, in a thread; None where the index cannot be read any more."""
        return await asyncio.to_thread(self._answer, question)

    def _answer(self, question: Callable[[sqlite3.Connection], T]) -> T | None:
        try:
            return ask_at_once(self.connection, question)
        except (sqlite3.DatabaseError, OutOfTimeError):
            return None


class Visitor:
    """Asks one question, or several."""

    def __init__(self, store: Store, folder: Path | None, *, progress: Progress = _nobody) -> None:
        """``folder``: where a proxy on this machine keeps its index, if it does (``audit.index``)."""
        self._store = store
        self._folder = folder
        self._progress = progress
        self._walked = 0

    async def export(self, search: Search) -> AsyncIterator[Event]:
        """All that match, newest first.  Raises `LedgerUnavailableError`."""
        first, upper = await stream.oldest_place(self._store), None
        if kept := await self._kept():
            with closing(kept.connection):
                upper = kept.high
                async for event in self._passed_by(search, None, upper + 1):
                    yield event
                while walked := await kept.ask(partial(paging.walk, searches=[search], count=BATCH, start=upper)):
                    for found in walked.found:
                        if found.place >= first:
                            yield found.event
                    if walked.resume is None:
                        return
                    upper = walked.resume
                    if upper < max(walked.since, first):
                        break
        async for event in self._passed_by(search, upper, first):
            yield event

    async def told(self, search: Search, since: int, most: int) -> tuple[Sequence[Event], bool]:
        """As `immuproxy.audit.Audit.told`."""
        found = list[Event]()
        async for event in self._passed_by(search, None, schema.place_of(max(0, since), 0)):
            if len(found) == most:
                return found, False
            found.append(event)
        return found, True

    async def count(self, before: int) -> int:
        """How many events entered the audit before a time (ms)."""
        lower, end = await stream.oldest_place(self._store), schema.place_of(before, 0)
        if kept := await self._kept():
            with closing(kept.connection):
                begin, behind = max(lower, kept.low), min(end, kept.high + 1)
                since, until = schema.ms_of(begin), min(before, schema.ms_of(kept.high) + 1)
                counted = await kept.ask(partial(views.count, since=since, until=until)) if begin < behind else None
                if counted is not None:
                    return counted + await self._entries(lower, begin) + await self._entries(behind, end)
        return await self._entries(lower, end)

    async def tail(self, search: Search) -> AsyncIterator[Event]:
        """Matching events as they arrive, for ever.  Raises `LedgerUnavailableError`."""
        after = await stream.newest_place(self._store)
        while True:
            await stream.wait_for_news(self._store, after)
            if batch := await stream.oldest_first(self._store, after + 1, BATCH):
                for found in reversed(await asyncio.to_thread(matching, batch, search)):
                    yield found.event
                after = batch[-1][0]

    async def _kept(self) -> _Kept | None:
        """The proxy's index; None where there is none, or one of another past than the stream has."""
        connection = await asyncio.to_thread(look_in, self._folder) if self._folder else None
        if connection is None:
            return None
        kept = _Kept(connection)
        kept.low, kept.high = await kept.ask(_state) or (0, 0)
        written = (await stream.newest_first(self._store, kept.high, kept.low, past.COMPARED))[::-1]
        # Two ledgers may share a place, so the events there are compared.
        if written and written[-1][0] == kept.high and await kept.ask(partial(past.is_as_read, entries=written)):
            return kept
        connection.close()
        return None

    async def _passed_by(self, search: Search, upper: int | None, lower: int) -> AsyncIterator[Event]:
        while batch := await stream.newest_first(self._store, upper, lower, BATCH):
            for found in await asyncio.to_thread(matching, batch, search):
                yield found.event
            await self._tell(len(batch))
            upper = batch[-1][0] - 1
            if upper < lower:
                return

    async def _entries(self, lower: int, end: int) -> int:
        """How many entries the stream has from ``lower`` to before ``end``."""
        counted = 0
        while lower < end and (batch := await stream.oldest_first(self._store, lower, BATCH)):
            inside = sum(place < end for place, _ in batch)
            await self._tell(inside)
            counted, lower = counted + inside, batch[-1][0] + 1
        return counted

    async def _tell(self, more: int) -> None:
        self._walked += more
        self._progress(self._walked, await stream.length(self._store))


def _state(connection: sqlite3.Connection) -> tuple[int, int]:
    """``low`` and ``high`` of `schema.TABLES`, 0 where there is nothing."""
    low, high = connection.execute("SELECT ifnull(low, 0), ifnull(high, 0) FROM state").fetchone()
    return low, high


def matching(batch: Sequence[Raw], search: Search) -> list[FoundEvent]:
    """The events of a part of the stream that match, newest first."""
    likely = [(place, raw) for place, raw in batch if _may_match(raw, search)]
    if not likely:
        return []
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        conditions.prepare(connection)
        connection.executescript(schema.TABLES)
        writer = Writer(connection)
        writer.take(likely, complete=True)
        writer.commit()
        return paging.walk(connection, [search], len(likely), seconds=inf).found


def _may_match(raw: bytes, search: Search) -> bool:
    """Whether the values that must be there occur somewhere: most events of others need not be taken apart."""
    for key in _VALUES:
        terms = search.values(key)
        if terms and all(term.exact and term.value.encode(errors="replace") not in raw for term in terms):
            return False
    return True
