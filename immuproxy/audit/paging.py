"""Walking back through the events of a search, in steps of bounded work.

Each step begins at the condition that holds for the fewest events: gathered, where they are few; else along the
postings of a word, or event by event.  It looks at `MOST_HITS` at most, so that it ends soon; what it looked at is done
with, and a search that has used up its time goes on there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

from immuproxy.audit import schema
from immuproxy.audit.conditions import MOST_HITS, NEVER, Compiler, Condition
from immuproxy.audit.search import Search
from immuproxy.ledger.model import Action, ActorSource, Event, Outcome
from immuproxy.ledger.record.rows import FIELDS

NEWEST = (1 << 63) - 1
DEADLINE = 0.25
"""Seconds that one request takes at most, or hardly more."""

_OPCODES = 5_000
"""Steps of SQLite between two looks at the clock."""

_FEWEST = 250
_BESIDE = "{} s CROSS JOIN events e ON e.place = s.place"
_ACTIONS = {action.value: action for action in Action}
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_SOURCES = {source.value: source for source in ActorSource}


def _shown(name: str) -> str:
    if name in schema.WORDS:
        return f"(SELECT text FROM words WHERE id = e.{name})"
    if name in schema.PACKED:
        return (
            f"CASE typeof(e.{name}) WHEN 'integer' THEN (SELECT text FROM words WHERE id = e.{name}) ELSE e.{name} END"
        )
    return f"e.{name}"


COLUMNS = ", ".join(["e.place", *map(_shown, FIELDS)])
"""The place and the values of an event as `event_of` takes them."""


@dataclass(frozen=True, slots=True)
class Found:
    """A matching event and its place."""

    place: int
    event: Event


@dataclass(slots=True)
class Walked:
    """What one request found, newest first.

    ``resume`` is where to go on (inclusive), None at the end.  ``high`` is the newest place that was there, ``since``
    the oldest one, and with ``whole`` there are no older events anywhere.
    """

    found: list[Found] = field(default_factory=list)
    resume: int | None = None
    high: int = 0
    since: int = 0
    whole: bool = True


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A part of the way: from ``upper`` down to ``lower`` (places, both inclusive), under more conditions."""

    upper: int
    lower: int
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class _Start:
    """What a step walks along, and from where on that is enough."""

    tables: str
    place: str
    where: str
    lower: int


def walk(
    connection: sqlite3.Connection,
    searches: Sequence[Search],
    count: int,
    start: int = NEWEST,
    seconds: float = DEADLINE,
) -> Walked:
    """``count`` events at or below ``start`` that all of ``searches`` want, newest first; fewer where time runs out."""
    low, high, complete = connection.execute("SELECT low, high, complete FROM state").fetchone()
    if low is None:
        return Walked() if complete else Walked(resume=min(start, NEWEST - 1), since=NEWEST, whole=False)
    walked = Walked(high=high, since=low, whole=bool(complete))
    _Walk(connection, searches, monotonic() + seconds).into(walked, count, start)
    if walked.resume is None and not complete:
        walked.resume = min(start, low - 1)
    return walked


def newer(connection: sqlite3.Connection, searches: Sequence[Search], after: int, most: int = MOST_HITS) -> Walked:
    """What ``searches`` want of the next ``most`` events above ``after``, oldest first.

    ``high`` is how far it looked.
    """
    end = connection.execute(
        "SELECT max(place) FROM (SELECT place FROM events WHERE place > ? ORDER BY place LIMIT ?)", (after, most)
    ).fetchone()[0]
    if end is None:
        return Walked(high=after)
    conditions = Compiler(connection).conditions(searches)
    where = "".join(f" AND {condition.sql}" for condition in conditions)
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM events e NOT INDEXED WHERE e.place > ? AND e.place <= ? {where} ORDER BY e.place",
        [after, end, *(argument for condition in conditions for argument in condition.arguments)],
    )
    return Walked([Found(row[0], event) for row in rows if (event := event_of(row[1:]))], None, end)


class _Walk:
    """One request."""

    def __init__(self, connection: sqlite3.Connection, searches: Sequence[Search], deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._searches = searches
        compiler = Compiler(connection)
        self._conditions = compiler.conditions(searches)
        self._odd = compiler.odd()
        self._many: set[int] = set()

    def into(self, walked: Walked, count: int, start: int) -> None:
        """Find events until they are enough, or time is up."""
        stretches = _stretches(self._searches, self._odd, start, walked.since)
        stretch = next(stretches, None) if NEVER not in self._conditions else None
        most, begun = MOST_HITS, False
        while stretch is not None and len(walked.found) < count and not (begun and self._late()):
            wanted = count - len(walked.found)
            rows, lower = self._step(stretch, wanted, most, patient=not begun and most == _FEWEST)
            if rows is None:
                if begun:
                    break
                most = _FEWEST  # even a slow machine gets on
                continue
            begun = True
            walked.found += [Found(row[0], event) for row in rows if (event := event_of(row[1:]))]
            if len(rows) == wanted:
                lower = rows[-1][0]
            stretch = replace(stretch, upper=lower - 1) if lower > stretch.lower else next(stretches, None)
        walked.resume = stretch.upper if stretch else None

    def _late(self) -> bool:
        return monotonic() > self._deadline

    def _step(self, stretch: _Stretch, count: int, most: int, *, patient: bool) -> tuple[list[Any] | None, int]:
        """The first events of a stretch, and down to which place it has been looked at; None where time ran out."""
        conditions = (*self._conditions, *stretch.conditions)
        start = self._start(stretch, conditions, most)
        where = "".join(f" AND {condition.sql}" for condition in conditions)
        sql = (
            f"SELECT {COLUMNS} FROM {start.tables} WHERE {start.where}"
            f" AND {start.place} <= ? AND {start.place} >= ? {where} ORDER BY {start.place} DESC LIMIT ?"
        )
        arguments = [argument for condition in conditions for argument in condition.arguments]
        # Only of what reads: an interrupted write would take the whole transaction with it.
        self._connection.set_progress_handler(None if patient else self._late, _OPCODES)
        try:
            return self._connection.execute(
                sql, [stretch.upper, start.lower, *arguments, count]
            ).fetchall(), start.lower
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            return None, start.lower
        finally:
            self._connection.set_progress_handler(None, 0)

    def _start(self, stretch: _Stretch, conditions: Sequence[Condition], most: int) -> _Start:
        for condition in conditions:
            if condition.word is None and self._gather(condition, stretch):
                return _Start(_BESIDE.format("hits"), "s.place", "1", stretch.lower)
        walks = [_Start("events e NOT INDEXED", "e.place", "1", self._reach("events", "1", stretch, most))]
        for word in dict.fromkeys(condition.word for condition in conditions if condition.word is not None):
            where = f"s.word = {word}"
            walks.append(_Start(_BESIDE.format("uses"), "s.place", where, self._reach("uses", where, stretch, most)))
        return min(walks, key=lambda start: start.lower)

    def _reach(self, table: str, where: str, stretch: _Stretch, most: int) -> int:
        """How far down ``most`` rows reach."""
        found = self._connection.execute(
            f"SELECT s.place FROM {table} s WHERE {where} AND s.place <= ? AND s.place >= ?"
            " ORDER BY s.place DESC LIMIT 1 OFFSET ?",
            (stretch.upper, stretch.lower, most - 1),
        ).fetchone()
        return int(found[0]) if found else stretch.lower

    def _gather(self, condition: Condition, stretch: _Stretch) -> bool:
        """Gather all places where a condition may hold; false where they are too many, or not known."""
        if condition.starts is None or id(condition) in self._many:
            return False
        self._connection.execute("DELETE FROM hits")
        for sql, arguments in condition.starts:
            self._connection.execute(
                f"INSERT OR IGNORE INTO hits SELECT place FROM ({sql}) WHERE place <= ? AND place >= ? LIMIT ?",
                (*arguments, stretch.upper, stretch.lower, MOST_HITS + 1),
            )
            if self._connection.execute("SELECT count(*) FROM hits").fetchone()[0] > MOST_HITS:
                self._many.add(id(condition))
                return False
        return True


def _stretches(searches: Sequence[Search], odd: Condition, start: int, low: int) -> Iterator[_Stretch]:
    """Newest first.  Outside of the times that are asked for stand odd events only (`schema.is_odd`)."""
    since = max((search.since.at for search in searches if search.since), default=None)
    until = min((search.until.at for search in searches if search.until), default=None)
    upper = start if until is None else min(start, schema.place_of(until + schema.NEAR_MS + 1, 0) - 1)
    lower = low if since is None else min(NEWEST, max(low, schema.place_of(max(0, since - schema.NEAR_MS), 0)))
    if start > upper and odd is not NEVER:
        yield _Stretch(start, max(upper + 1, low), (odd,))
    if upper >= lower:
        yield _Stretch(upper, lower)
    if lower > low and odd is not NEVER and min(start, lower - 1) >= low:
        yield _Stretch(min(start, lower - 1), low, (odd,))


def event_of(row: Sequence[Any]) -> Event | None:
    """The event of a row of `COLUMNS` without its place; None where a newer proxy wrote what this one does not know."""
    values = dict(zip(FIELDS, row, strict=True))
    for name in schema.PACKED:
        if isinstance(values[name], bytes):
            values[name] = schema.unpacked(name, values[name])
    try:
        return _event(values)
    except (KeyError, ValueError):
        return None


def _event(values: dict[str, Any]) -> Event:
    for name, read in _READERS.items():
        values[name] = read(values[name])
    return Event(**values)


def _number(value: int | str | None) -> int | None:
    return None if value is None else int(value)


_READERS: dict[str, Callable[[Any], Any]] = {
    **{name: (lambda text: text or "") for name in (*schema.WORDS, *schema.PACKED)},
    **dict.fromkeys(schema.NUMERIC, _number),
    "shadow": bool,
    "actor_confirmed": bool,
    "platforms": lambda text: tuple((text or "").split()),
    "action": _ACTIONS.__getitem__,
    "outcome": _OUTCOMES.__getitem__,
    "actor_source": lambda text: _SOURCES[text or "anonymous"],
}
