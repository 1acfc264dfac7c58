"""Walking back through the events of a search, one bounded piece of work at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from immuproxy.ledger.audit import entries, rows
from immuproxy.ledger.audit.cursors import MOST_SEQUENCE, NEWEST, Position, before, position
from immuproxy.ledger.audit.matching import RowTest, raw_test, requirements, row_test
from immuproxy.ledger.audit.plan import Group, Planner
from immuproxy.ledger.model import Event
from immuproxy.ledger.redis import Store
from immuproxy.ledger.search import Search

LATE_MS = 2_000
"""An entry whose id is later than its event by more stands in the posting of late ones (``audit_project.lua``)."""

SKEW_MS = 10_000
"""How far the clocks of two nodes of a cluster may be apart without a search by time missing an event."""

MOST_READ = 800
"""Events that one request reads at most where indexes point at them."""

MOST_SCANNED = 5_000
"""Events that one request reads at most where it reads every one."""

MOST_WORK = 12_000
"""Steps in indexes that one request makes at most: about 15 ms of Redis."""

_SHARE = 4
"""The least part of all that which one call may do: Redis answers nobody else meanwhile, for some 5 ms."""


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
    effort: float


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What an event must be: ``required`` to occur in it as it is written, and then the ``test`` of its values."""

    required: list[list[bytes]]
    test: RowTest

    def among(self, found: Iterable[tuple[bytes, bytes]]) -> list[Found]:
        return [
            Found(position(entry_id), event)
            for entry_id, raw in found
            if self.test(row := rows.row(raw)) and (event := rows.event_of(row))
        ]


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
        wanted = _Wanted(requirements(search), row_test(search))
        return await self._along(_stretches(search, groups, start), wanted, count)

    async def _along(self, stretches: Iterator[_Stretch], wanted: _Wanted, count: int) -> Walked:
        walked, effort = Walked(), 0.0
        stretch: _Stretch | None = next(stretches, None)
        while stretch is not None and len(walked.found) < count and effort < 1:
            step = await self._step(stretch, wanted, count - len(walked.found))
            walked.found += step.found
            effort += step.effort
            stretch = next(stretches, None) if step.bound is None else replace(stretch, upper=step.bound)
        walked.resume = stretch.upper if stretch else None
        return walked

    async def _step(self, stretch: _Stretch, wanted: _Wanted, count: int) -> _Step:
        near = [group.near(stretch.upper.ms) for group in stretch.groups]
        chosen = [each for each in near if each is not None]
        if not chosen:
            return await self._scan(stretch, wanted, count)
        floor = max([stretch.lower, *(floor for _, floor in chosen)])
        reads, work = MOST_READ // _SHARE, MOST_WORK // _SHARE
        names = [names for names, _ in chosen]
        status, ms, sequence, read, worked, found = await self._store.script(
            "audit_walk",
            [entries.EVENTS, *chain.from_iterable(names)],
            [*stretch.upper, floor, count, reads, work, len(names), *map(len, names), *_flat(wanted.required)],
        )
        bound: Position | None = Position(int(ms), int(sequence))
        if status == b"end":
            bound = Position(floor - 1, MOST_SEQUENCE) if floor > stretch.lower else None
        return _Step(wanted.among(found), bound, read / MOST_READ + worked / MOST_WORK)

    async def _scan(self, stretch: _Stretch, wanted: _Wanted, count: int) -> _Step:
        """Read every event in turn, some at once."""
        most = MOST_SCANNED // _SHARE if wanted.required else min(2 * count, MOST_SCANNED // _SHARE)
        raw = await self._store.do(
            self._store.client.xrevrange(entries.EVENTS, str(stretch.upper), f"{stretch.lower}-0", count=most)
        )
        bound = before(position(raw[-1][0])) if len(raw) == most else None
        if bound is not None and bound.ms < stretch.lower:
            bound = None
        may_match = raw_test(wanted.required)
        written = ((entry_id, rows.raw_of(fields)) for entry_id, fields in raw)
        return _Step(wanted.among(pair for pair in written if may_match(pair[1])), bound, len(raw) / MOST_SCANNED)


def _flat(required: Sequence[Sequence[bytes]]) -> list[int | bytes]:
    flat: list[int | bytes] = [len(required)]
    for spellings in required:
        flat += [len(spellings), *spellings]
    return flat


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
