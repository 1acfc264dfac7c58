"""Walking back through the events of a search, one bounded piece of work at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from immuproxy.ledger.audit import entries
from immuproxy.ledger.audit.cursors import MOST_SEQUENCE, NEWEST, Position, before, position
from immuproxy.ledger.audit.matching import RowTest, row_test
from immuproxy.ledger.audit.plan import Group, Planner
from immuproxy.ledger.model import Event
from immuproxy.ledger.redis import Store
from immuproxy.ledger.search import Search

LATE_MS = 2_000
"""An entry whose id is later than its event by more stands in the posting of late ones (``audit_project.lua``)."""

SKEW_MS = 10_000
"""How far the clocks of two nodes of a cluster may be apart without a search by time missing an event."""

MOST_EVENTS = 600
"""Events that one request reads at most; those of the stream itself count for less."""

_MOST_STEPS = 20
_READINGS = 6_000
_MOST_CHUNK = 250

_STREAM_DISCOUNT = 3
"""An event read in a row from the stream costs Redis this much less than one that a posting points at."""


@dataclass(frozen=True, slots=True)
class Found:
    """A matching event and where it stands."""

    place: Position
    event: Event


@dataclass(slots=True)
class Walked:
    """What one request found: ``resume`` is where to go on (inclusive), None at the end."""

    found: list[Found] = field(default_factory=list)
    resume: Position | None = None


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A part of the way: from ``upper`` (inclusive) down to ``lower`` milliseconds, through these groups."""

    upper: Position
    lower: int
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """What one script call answered: ``bound`` is None when nothing is left in the stretch."""

    found: list[Found]
    read: float
    bound: Position | None


class Walker:
    """Finds the events of searches in the store."""

    def __init__(self, store: Store, planner: Planner) -> None:
        """``planner`` chooses the postings."""
        self._store = store
        self._planner = planner

    async def walk(self, search: Search, count: int, start: Position = NEWEST) -> Walked:
        """``count`` events or some more at or below ``start``, newest first; fewer where the work ends."""
        groups = await self._planner.groups(search)
        if groups is None:
            return Walked()
        return await self._along(_stretches(search, groups, start), row_test(search), count)

    async def _along(self, stretches: Iterator[_Stretch], test: RowTest, count: int) -> Walked:
        walked, read, chunk = Walked(), 0.0, count
        stretch: _Stretch | None = next(stretches, None)
        for _ in range(_MOST_STEPS):
            if stretch is None:
                return walked
            step = await self._step(stretch, test, min(chunk, _MOST_CHUNK))
            walked.found += step.found
            read += step.read
            stretch = next(stretches, None) if step.bound is None else replace(stretch, upper=step.bound)
            if len(walked.found) >= count or read >= MOST_EVENTS:
                break
            chunk *= 2
        walked.resume = stretch.upper if stretch else None
        return walked

    async def _step(self, stretch: _Stretch, test: RowTest, limit: int) -> _Step:
        near = [group.near(stretch.upper.ms) for group in stretch.groups]
        chosen = [each for each in near if each is not None]
        if not chosen:
            return await self._stream_step(stretch, test, limit)
        floor = max([stretch.lower, *(floor for _, floor in chosen)])
        status, ms, sequence, raw = await self._store.script(
            "audit_walk",
            [entries.EVENTS, *(key for names, _ in chosen for key in names)],
            [*stretch.upper, floor, limit, _READINGS, *(len(names) for names, _ in chosen)],
        )
        bound: Position | None = Position(int(ms), int(sequence))
        if status == b"end":
            bound = Position(floor - 1, MOST_SEQUENCE) if floor > stretch.lower else None
        return _Step(list(_matching(raw, test)), len(raw), bound)

    async def _stream_step(self, stretch: _Stretch, test: RowTest, limit: int) -> _Step:
        raw = await self._store.do(
            self._store.client.xrevrange(entries.EVENTS, str(stretch.upper), f"{stretch.lower}-0", count=limit)
        )
        bound = before(position(raw[-1][0])) if len(raw) == limit else None
        if bound is not None and bound.ms < stretch.lower:
            bound = None
        return _Step(list(_matching(raw, test)), len(raw) / _STREAM_DISCOUNT, bound)


def _matching(raw: Sequence[tuple[bytes, Sequence[bytes]]], test: RowTest) -> Iterator[Found]:
    for entry_id, fields in raw:
        row = entries.row(fields)
        if test(row) and (event := entries.event_of(row)):
            yield Found(position(entry_id), event)


def _stretches(search: Search, groups: tuple[Group, ...], start: Position) -> Iterator[_Stretch]:
    """Newest part first.  Events before ``until`` may stand above it: late ones, which have a posting of their own."""
    lower = max(0, search.since.at - SKEW_MS) if search.since else 0
    upper = start
    if search.until:
        cut = search.until.at + LATE_MS
        if start.ms > cut:
            yield _Stretch(start, max(lower, cut + 1), (*groups, Group((entries.LATE,))))
        upper = min(start, Position(cut, MOST_SEQUENCE))
    if upper.ms >= lower:
        yield _Stretch(upper, lower, groups)
