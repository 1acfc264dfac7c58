"""Walking back through the events of a search, one bounded piece of work at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from immuproxy.ledger.audit import entries, rows
from immuproxy.ledger.audit.cursors import MOST_SEQUENCE, NEWEST, Position, before, position
from immuproxy.ledger.audit.matching import RawTest, RowTest, raw_test, row_test
from immuproxy.ledger.audit.plan import Group, Planner
from immuproxy.ledger.model import Event
from immuproxy.ledger.redis import Store
from immuproxy.ledger.search import Search

LATE_MS = 2_000
"""An entry whose id is later than its event by more stands in the posting of late ones (``audit_project.lua``)."""

SKEW_MS = 10_000
"""How far the clocks of two nodes of a cluster may be apart without a search by time missing an event."""

MOST_EVENTS = 1_200
"""Events that one request reads at most; those of the stream itself count for less."""

MOST_READINGS = 24_000
"""Pieces of postings that one request reads at most."""

_READINGS_A_STEP = 6_000
"""About 5 ms of Redis, which answers nobody else meanwhile."""

_MOST_CHUNK = 300
_MOST_STREAM_CHUNK = 1_500

_STREAM_DISCOUNT = 5
"""An event read in a row from the stream costs this much less than one that a posting points at."""


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
    bound: Position | None
    events: float
    readings: int = 0


@dataclass(frozen=True, slots=True)
class _Filter:
    """Lets matching events through: ``may`` looks at what is written, ``test`` at its values."""

    may: RawTest
    test: RowTest

    def found(self, stream_entries: Sequence[tuple[bytes, Mapping[bytes, bytes] | Sequence[bytes]]]) -> list[Found]:
        return list(self._found(stream_entries))

    def _found(
        self, stream_entries: Sequence[tuple[bytes, Mapping[bytes, bytes] | Sequence[bytes]]]
    ) -> Iterator[Found]:
        for entry_id, fields in stream_entries:
            raw = rows.raw_of(fields)
            if self.may(raw) and self.test(row := rows.row(raw)) and (event := rows.event_of(row)):
                yield Found(position(entry_id), event)


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
        return await self._along(_stretches(search, groups, start), _Filter(raw_test(search), row_test(search)), count)

    async def _along(self, stretches: Iterator[_Stretch], wanted: _Filter, count: int) -> Walked:
        walked, chunk, events, readings = Walked(), count, 0.0, 0
        stretch: _Stretch | None = next(stretches, None)
        while stretch is not None and len(walked.found) < count and events < MOST_EVENTS and readings < MOST_READINGS:
            step = await self._step(stretch, wanted, chunk, MOST_READINGS - readings)
            walked.found += step.found
            events, readings = events + step.events, readings + step.readings
            stretch = next(stretches, None) if step.bound is None else replace(stretch, upper=step.bound)
            chunk *= 2
        walked.resume = stretch.upper if stretch else None
        return walked

    async def _step(self, stretch: _Stretch, wanted: _Filter, limit: int, readings: int) -> _Step:
        near = [group.near(stretch.upper.ms) for group in stretch.groups]
        chosen = [each for each in near if each is not None]
        if not chosen:
            return await self._stream_step(stretch, wanted, min(limit, _MOST_STREAM_CHUNK))
        floor = max([stretch.lower, *(floor for _, floor in chosen)])
        status, ms, sequence, used, raw = await self._store.script(
            "audit_walk",
            [entries.EVENTS, *(key for names, _ in chosen for key in names)],
            [
                *stretch.upper,
                floor,
                min(limit, _MOST_CHUNK),
                min(readings, _READINGS_A_STEP),
                *(len(names) for names, _ in chosen),
            ],
        )
        bound: Position | None = Position(int(ms), int(sequence))
        if status == b"end":
            bound = Position(floor - 1, MOST_SEQUENCE) if floor > stretch.lower else None
        return _Step(wanted.found(raw), bound, len(raw), int(used))

    async def _stream_step(self, stretch: _Stretch, wanted: _Filter, limit: int) -> _Step:
        raw = await self._store.do(
            self._store.client.xrevrange(entries.EVENTS, str(stretch.upper), f"{stretch.lower}-0", count=limit)
        )
        bound = before(position(raw[-1][0])) if len(raw) == limit else None
        if bound is not None and bound.ms < stretch.lower:
            bound = None
        return _Step(wanted.found(raw), bound, len(raw) / _STREAM_DISCOUNT)


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
