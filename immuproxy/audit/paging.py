"""Walking back through the events of a search, in steps of bounded work.

Each step is one SELECT along what holds for the fewest events: the events of a condition, where they are few; else
those of a word, or all of them.  It reads so many of these at most, so that it ends soon; what it looked at is done
with, and a search that has used up its time goes on there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

from immuproxy.audit import schema
from immuproxy.audit.conditions import ODD, Compiler, Condition
from immuproxy.audit.deadline import OutOfTimeError, ends_by, last_moment
from immuproxy.audit.record.rows import FIELDS
from immuproxy.audit.search import Search
from immuproxy.ledger.model import Action, ActorSource, Event, Outcome

NEWEST = (1 << 63) - 1
DEADLINE = 0.25
"""Seconds that one request walks at most, or hardly more; before that it looks up what its words stand for."""

MOST_HITS = 10_000
"""Events that one step of a search looks at."""

MOST_ARRIVALS = 100
"""Events that a live tail takes at once: each of many holds them until its listener has taken them."""

_FEWEST = 250
"""The same of the first step, which is not cut: even a slow machine gets on."""

_EVERY = Condition("1", places="SELECT place FROM events", ordered=True)
_SOURCES = {source.value: source for source in ActorSource}


def _shown(name: str) -> str:
    text = f"(SELECT text FROM words WHERE id = e.{name})"
    if name in schema.WORDS:
        return text
    return f"iif(typeof(e.{name}) = 'integer', {text}, e.{name})" if name in schema.PACKED else f"e.{name}"


COLUMNS = ", ".join(["e.place", *map(_shown, FIELDS)])
"""The place and the values of an event as `event_of` takes them."""


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """A matching event and its place."""

    place: int
    event: Event


@dataclass(slots=True)
class Walked:
    """What one request found, newest first.

    ``resume`` is where to go on (inclusive), None at the end.  ``high`` is the newest place that was there, ``since``
    the oldest one, and with ``whole`` there are no older events anywhere.
    """

    found: list[FoundEvent] = field(default_factory=list)
    resume: int | None = None
    high: int = 0
    since: int = 0
    whole: bool = True

    @property
    def is_through(self) -> bool:
        """Whether all was looked at that is there."""
        return self.resume is None or self.resume < self.since


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A part of the way: from ``upper`` down to ``lower`` (places, both inclusive), under more conditions."""

    upper: int
    lower: int
    conditions: tuple[Condition, ...] = ()


def walk(
    connection: sqlite3.Connection,
    searches: Sequence[Search],
    count: int,
    start: int = NEWEST,
    seconds: float = DEADLINE,
) -> Walked:
    """``count`` events at or below ``start`` that all of ``searches`` want, newest first; fewer where time runs out.

    Even a slow machine gets on.  Raises `OutOfTimeError`.
    """
    low, high, complete = connection.execute("SELECT low, high, complete FROM state").fetchone()
    if low is None:
        return Walked() if complete else Walked(resume=min(start, NEWEST - 1), since=NEWEST, whole=False)
    walked = Walked(high=high, since=low, whole=bool(complete))
    stretches = _stretches(searches, start, low)
    stretch = next(stretches, None)

    def step(conditions: Sequence[Condition], most: int) -> bool:
        nonlocal stretch
        if not stretch or len(walked.found) >= count:
            return False
        wanted = count - len(walked.found)
        rows, lower = _step(connection, stretch, [*conditions, *stretch.conditions], wanted, most)
        walked.found += _read(rows)
        if len(rows) == wanted:
            lower = rows[-1][0]
        stretch = replace(stretch, upper=lower - 1) if lower > stretch.lower else next(stretches, None)
        return True

    _in_steps(connection, searches, step, seconds)
    walked.resume = stretch.upper if stretch else None if complete else min(start, low - 1)
    return walked


def _in_steps(
    connection: sqlite3.Connection,
    searches: Sequence[Search],
    step: Callable[[Sequence[Condition], int], bool],
    seconds: float,
) -> None:
    """Take steps, under the conditions of all searches, as long as there is one more to take and time is left.

    A ``step`` looks at so many events at most, and is false where there is none to take.  The first one is not cut by
    ``seconds``, and to look up the words takes nothing of these.  Raises `OutOfTimeError`.
    """
    latest = max(monotonic() + seconds, last_moment())
    with ends_by(connection, latest):
        conditions = Compiler(connection).conditions(searches)
    deadline = monotonic() + seconds
    with ends_by(connection, latest):
        more = step(conditions, _FEWEST)
    with suppress(OutOfTimeError):
        while more:
            with ends_by(connection, deadline):
                more = step(conditions, MOST_HITS)


def _step(
    connection: sqlite3.Connection, stretch: _Stretch, conditions: Sequence[Condition], count: int, most: int
) -> tuple[list[Any], int]:
    """The first events of a stretch, and down to which place it has been looked at."""
    lower, places = _way(connection, stretch, conditions, most)
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM ({places}) s CROSS JOIN events e ON e.place = s.place"
        f" WHERE s.place <= ? AND s.place >= ?{_all_of(conditions)} ORDER BY s.place DESC LIMIT ?",
        [stretch.upper, lower, *_arguments(conditions), count],
    )
    return rows.fetchall(), lower


def _way(
    connection: sqlite3.Connection, stretch: _Stretch, conditions: Sequence[Condition], most: int
) -> tuple[int, str]:
    """What to walk along, and how far down ``most`` places of it reach.

    Places without order are of use where they are few, and are sorted then; there may be some more than once.
    """
    ways, limits = [], (stretch.upper, stretch.lower, most)
    for way in (*conditions, _EVERY):
        if way.places is None:
            continue
        part = f"SELECT place FROM ({way.places}) WHERE place <= ? AND place >= ?"
        if way.ordered:
            last = connection.execute(f"{part} ORDER BY place DESC LIMIT 1 OFFSET ? - 1", limits).fetchone()
            ways.append((last[0] if last else stretch.lower, way.places))
        elif not connection.execute(f"{part} LIMIT 1 OFFSET ?", limits).fetchone():
            connection.execute("DELETE FROM hits")
            connection.execute(f"INSERT OR IGNORE INTO hits {part} LIMIT ?", limits)
            return stretch.lower, "SELECT place FROM hits"
    return min(ways)


def newer(
    connection: sqlite3.Connection,
    searches: Sequence[Search],
    after: int,
    count: int = MOST_ARRIVALS,
    seconds: float = DEADLINE,
) -> Walked:
    """The first ``count`` events above ``after`` that all of ``searches`` want, oldest first; fewer as for `walk`.

    ``high`` is how far it looked: what it did not look at is above.  Raises `OutOfTimeError`.
    """
    low, complete = connection.execute("SELECT ifnull(low, 0), complete FROM state").fetchone()
    walked = Walked(high=after, since=low, whole=bool(complete))

    def step(conditions: Sequence[Condition], most: int) -> bool:
        wanted = count - len(walked.found)
        if not wanted:
            return False
        rows, upper = _step_up(connection, walked.high, conditions, wanted, most)
        if upper is None:
            return False
        walked.found += _read(rows)
        walked.high = rows[-1][0] if len(rows) == wanted else upper
        return True

    _in_steps(connection, searches, step, seconds)
    return walked


def _step_up(
    connection: sqlite3.Connection, after: int, conditions: Sequence[Condition], count: int, most: int
) -> tuple[list[Any], int | None]:
    """The first matches among the next ``most`` events, and up to which place these are; None where there are none."""
    upper = connection.execute(
        "SELECT max(place) FROM (SELECT place FROM events WHERE place > ? ORDER BY place LIMIT ?)", (after, most)
    ).fetchone()[0]
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM events e NOT INDEXED"
        f" WHERE e.place > ? AND e.place <= ?{_all_of(conditions)} ORDER BY e.place LIMIT ?",
        [after, upper, *_arguments(conditions), count],
    )
    return rows.fetchall(), upper


def _all_of(conditions: Sequence[Condition]) -> str:
    return "".join(f" AND {condition.sql}" for condition in conditions)


def _arguments(conditions: Sequence[Condition]) -> list[object]:
    return [argument for condition in conditions for argument in condition.arguments]


def _read(rows: Iterable[Any]) -> list[FoundEvent]:
    return [FoundEvent(row[0], event) for row in rows if (event := event_of(row[1:]))]


def _stretches(searches: Sequence[Search], start: int, low: int) -> Iterator[_Stretch]:
    """Newest first.  Outside of the times that are asked for stand odd events only (`schema.is_odd`)."""
    since = max((search.since.at for search in searches if search.since), default=None)
    until = min((search.until.at for search in searches if search.until), default=None)
    upper = start if until is None else min(start, schema.place_of(until + schema.NEAR_MS + 1, 0) - 1)
    lower = low if since is None else min(NEWEST, max(low, schema.place_of(max(0, since - schema.NEAR_MS), 0)))
    if start > upper:
        yield _Stretch(start, max(upper + 1, low), (ODD,))
    if upper >= lower:
        yield _Stretch(upper, lower)
    if lower > low and min(start, lower - 1) >= low:
        yield _Stretch(min(start, lower - 1), low, (ODD,))


def event_of(row: Sequence[Any]) -> Event | None:
    """The event of a row of `COLUMNS` without its place; None where a newer proxy wrote what this one does not know."""
    values = dict(zip(FIELDS, row, strict=True))
    for name in schema.PACKED:
        if isinstance(values[name], bytes):
            values[name] = schema.unpacked(name, values[name])
    try:
        return Event(**values | {name: read(values[name]) for name, read in _READERS.items()})
    except (KeyError, ValueError):
        return None


def _number(value: int | str | None) -> int | None:
    return None if value is None else int(value)


_READERS: dict[str, Callable[[Any], Any]] = {
    **{name: (lambda text: text or "") for name in (*schema.WORDS, *schema.PACKED)},
    **dict.fromkeys(schema.NUMERIC, _number),
    "shadow": bool,
    "actor_confirmed": bool,
    "platforms": lambda text: tuple((text or "").split()),
    "action": {action.value: action for action in Action}.__getitem__,
    "outcome": {outcome.value: outcome for outcome in Outcome}.__getitem__,
    "actor_source": lambda text: _SOURCES[text or "anonymous"],
}
