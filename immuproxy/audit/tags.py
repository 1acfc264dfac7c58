"""What the audit knows of each tag: its last event, and which one set it.  Works on the writer's connection.

A row of ``tags`` stands for the events of one tag of one kind (`NAMED`, `SET`, `CONFIRMED`): ``newest`` is the greatest
of their places, ``time`` and ``place`` are those of the newest in the order of the events' own times.  Both are
maxima, so events may be taken in any order: the oldest come last while the index is built.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from immuproxy.audit import schema
from immuproxy.ledger.model import Action, Outcome

NAMED, SET, CONFIRMED = range(3)
"""An event that only names the tag, one that set it or deleted it, and a push of what it held already."""

_SETTING = (Outcome.CREATED, Outcome.OVERWRITTEN, Outcome.ADOPTED)
_DELETED = schema.words("outcome", Outcome.DELETED)
_KIND = f"""
CASE
  WHEN typeof(time) <> 'integer' THEN {NAMED}
  WHEN outcome IN {_DELETED} AND action IN {schema.words("action", Action.DELETE_TAG)} THEN {SET}
  WHEN digest IS NULL THEN {NAMED}
  WHEN outcome IN {schema.words("outcome", *_SETTING)} THEN {SET}
  WHEN outcome IN {schema.words("outcome", Outcome.UNCHANGED)} THEN {CONFIRMED}
  ELSE {NAMED}
END
"""
_TAKE = f"""
INSERT INTO tags SELECT repository, tag, {_KIND}, place, time, place FROM events
WHERE {{}} AND tag NOT IN {schema.words("tag", "")} AND action NOT IN {schema.words("action", Action.EXCEPTION)}
ON CONFLICT (repository, tag, kind) DO UPDATE SET
  newest = max(newest, excluded.newest), time = max(time, excluded.time),
  place = iif((excluded.time, excluded.place) > (time, place), excluded.place, place)
"""
_GOING = "repository = ? AND tag = ? AND place < ?"
_TAKE_BETWEEN = _TAKE.format("place BETWEEN ? AND ?")
_TAKE_OF_TAG = _TAKE.format("place IN (SELECT place FROM uses WHERE word = ?) AND repository = ? AND tag = ?")


def take(connection: sqlite3.Connection, first: int, last: int) -> None:
    """Take in the events from one place to another, which are in ``events``; those of exceptions say nothing."""
    connection.execute(_TAKE_BETWEEN, (first, last))


def forget(connection: sqlite3.Connection, tags: Iterable[tuple[int, int]], end: int) -> None:
    """Let go what is known by events below a place, which are in ``events`` no more.

    ``tags``: repository and tag of each, by their words.  A newer event that is the older one by its own time (it was
    told late, H115) takes the place of one that went: then all events of the tag are asked.
    """
    for tag in tags:
        newest = connection.execute(f"SELECT max(newest) FROM tags WHERE {_GOING}", (*tag, end)).fetchone()[0]
        connection.execute(f"DELETE FROM tags WHERE {_GOING}", (*tag, end))
        if newest is not None and newest >= end:
            connection.execute(_TAKE_OF_TAG, (tag[0], *tag))
