"""What the audit knows of each tag: its last event, and when it was last set.  Works on the writer's connection.

A tag is set by the first event of the newest run of events with the same digest; a delete is one, too, without a
digest.  Order is that of the events' own times.  Events are taken in any order (the oldest come last while the index is
built), so a row keeps the run's beginning ``since`` and end ``upto``, and the newest event below it, ``floor``, each as
`moment`.  What falls into the middle of a run with another digest divides it: all events of the tag are asked again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from immuproxy.ledger.model import Action, Outcome

SETTING = frozenset({Outcome.CREATED.value, Outcome.OVERWRITTEN.value, Outcome.UNCHANGED.value, Outcome.ADOPTED.value})
_SEQUENCES = 0xFFFF
_MOST_MS = (1 << 47) - 1

Digest = bytes | int | None
Key = tuple[int, int]
"""Repository and tag, by their words."""


@dataclass(slots=True)
class Setting:
    """An event that set a tag, or deleted it (``gone``)."""

    moment: int
    digest: Digest
    actor: int
    gone: bool


def moment(time: int, place: int) -> int:
    """An event's own time, and its sequence: no two events of a tag at the same time are taken for one."""
    return max(-1, min(time, _MOST_MS)) << 16 | place & _SEQUENCES  # no more than SQLite can hold


def sets(action: str, outcome: str, *, has_digest: bool) -> bool | None:
    """False where an event sets a tag, True where it deletes it, None where it does neither."""
    if (action, outcome) == (Action.DELETE_TAG.value, Outcome.DELETED.value):
        return True
    return False if outcome in SETTING and has_digest else None


EventsOf = Callable[[Key], Iterable[tuple[int, Setting | None]]]
"""Gives the place of each event of a tag but exceptions, with what it sets; in any order."""


@dataclass(slots=True)
class _Row:
    last: int
    since: int = 0
    upto: int = 0
    floor: int = 0
    digest: Digest = None
    actor: int = 0
    gone: bool = False

    def take(self, event: Setting) -> bool:
        """Take an event in; false where it divides the run, and all events have to be asked again."""
        same = (event.digest, event.gone) == (self.digest, self.gone)
        if event.moment > self.upto:
            if not same or not self.since:
                self.floor, self.since = self.upto, event.moment
                self.digest, self.actor, self.gone = event.digest, event.actor, event.gone
            self.upto = event.moment
        elif event.moment >= self.since:
            return same
        elif event.moment > self.floor:
            if same:
                self.since, self.actor = event.moment, event.actor
            else:
                self.floor = event.moment
        return True


class Tags:
    """The rows of ``tags`` that a batch of events touches."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Nothing is read before the first event."""
        self._connection = connection
        self._rows: dict[Key, _Row] = {}
        self._again: set[Key] = set()

    def take(self, key: Key, place: int, event: Setting | None) -> None:
        """An event names the tag, and maybe sets it."""
        row = self._rows.get(key) or self._read(key) or _Row(place)
        self._rows[key] = row
        row.last = max(row.last, place)
        if event and not row.take(event):
            self._again.add(key)

    def drop(self, key: Key, place: int, event: Setting | None) -> None:
        """An event of the tag goes; the oldest go first."""
        row = self._rows.get(key) or self._read(key)
        if row is not None:
            self._rows[key] = row
            if row.last <= place or (event and event.moment in {row.since, row.upto}):
                self._again.add(key)

    def _read(self, key: Key) -> _Row | None:
        found = self._connection.execute(
            "SELECT last, since, upto, floor, digest, actor, gone FROM tags WHERE repository = ? AND tag = ?", key
        ).fetchone()
        if not found:
            return None
        last, since, upto, floor, digest, actor, gone = found
        return _Row(last, since, upto, floor, digest, actor, bool(gone))

    def write(self, events_of: EventsOf) -> None:
        """Write what changed; ``events_of`` gives the events of a tag that are there."""
        for key in self._again:
            self._rows.pop(key)
            self._connection.execute("DELETE FROM tags WHERE repository = ? AND tag = ?", key)
            if row := _row_of(events_of(key)):
                self._rows[key] = row
        self._connection.executemany(
            "INSERT OR REPLACE INTO tags VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (*key, row.last, row.since, row.upto, row.floor, row.digest, row.actor, row.gone)
                for key, row in self._rows.items()
            ],
        )


def _row_of(events: Iterable[tuple[int, Setting | None]]) -> _Row | None:
    found = list(events)
    if not found:
        return None
    row = _Row(max(place for place, _ in found))
    for event in sorted((event for _, event in found if event), key=lambda event: event.moment):
        row.take(event)
    return row
