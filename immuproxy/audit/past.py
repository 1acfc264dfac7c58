"""Whether the index has read what the stream holds, and not another past of it.  Works on the writer's connection.

Redis may come back with an older copy, or be taken over by a replica that had less.  What was lost is recorded again
from the outboxes, in any order, or never; where the clock went back, new events get places that others had before
(H130).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial

from immuproxy.audit import schema
from immuproxy.audit.record.rows import SEPARATOR
from immuproxy.audit.stream import Raw
from immuproxy.audit.writing import Writer, is_readable

COMPARED = 1_000
"""Events that are compared, the newest, where Redis may have come back with another past."""

_WORD = "SELECT id FROM words WHERE field = ? AND text = ?"


def take(writer: Writer, known: Sequence[Raw], new: Sequence[Raw], *, sure: bool) -> list[int] | None:
    """Take in what is new in the stream behind what is ``known`` of it; both ascending.

    Not where the index has read something else than ``known``: then None.  Nor where it has some of the new events
    elsewhere: then their places, for it may be that they are not there any more; ``sure``: they are, and so twice.
    """
    if not writer.ask(partial(is_as_read, entries=known)):
        return None
    places = [] if sure else writer.ask(partial(_places_of, entries=new))
    if new and not places:
        writer.take(new)
    return places


def is_as_read(connection: sqlite3.Connection, entries: Sequence[Raw]) -> bool:
    """Whether the index has these entries of the stream, ascending, and no others between them."""
    rows = connection.execute(
        "SELECT place, id FROM events WHERE place BETWEEN ? AND ?", (entries[0][0], entries[-1][0])
    )
    held = dict(rows.fetchall())
    return held.keys() <= dict(entries).keys() and all(
        held[place] == _id(connection, raw) if place in held else not is_readable(raw) for place, raw in entries
    )


def _places_of(connection: sqlite3.Connection, entries: Sequence[Raw]) -> list[int]:
    """Where the index has the events of these entries."""
    ids = [event_id for _, raw in entries if (event_id := _id(connection, raw)) is not None]
    marks = ", ".join("?" * len(ids))
    return [place for (place,) in connection.execute(f"SELECT place FROM events WHERE id IN ({marks})", ids)]


def _id(connection: sqlite3.Connection, raw: bytes) -> bytes | int | None:
    """The event's id as ``events`` has it; None where it is of no event there."""
    text = raw.partition(SEPARATOR.encode())[0].decode(errors="replace")
    if packed := schema.packed("id", text):
        return packed
    found = connection.execute(_WORD, (schema.NUMBER_OF["id"], text)).fetchone()
    return int(found[0]) if found else None
