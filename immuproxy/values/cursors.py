"""Places in the record and in lists, and the opaque texts that stand for them outside.  No I/O here."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import NamedTuple


class BadCursorError(ValueError):
    """A cursor that nobody gave out."""


MOST_SEQUENCE = 0xFFFF
MOST_MS = (1 << 48) - 1


class Position(NamedTuple):
    """The id of a stream entry."""

    ms: int
    sequence: int


def write(kind: str, *parts: str | int) -> str:
    """A cursor that only a reader of the same ``kind`` takes."""
    raw = json.dumps([kind, *parts], separators=(",", ":"), ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def read(kind: str, types: Sequence[type], cursor: str) -> list[str | int]:
    """The parts of a cursor; raises `BadCursorError` for anything that `write` did not make."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found = json.loads(raw)
    except (binascii.Error, ValueError, RecursionError):
        found = None
    well_formed = isinstance(found, list) and found[:1] == [kind] and [type(part) for part in found[1:]] == list(types)
    if not isinstance(found, list) or not well_formed or not all(map(_can_be_asked_for, found)):
        raise BadCursorError("this cursor does not come from here, or from another kind of list")
    return found[1:]


def _can_be_asked_for(part: str | int) -> bool:
    """Whether a database takes it: 64 bits, and no half of a surrogate pair."""
    if isinstance(part, int):
        return abs(part) < 1 << 63
    return part.isascii() or not any("\ud800" <= character <= "\udfff" for character in part)


def write_position(kind: str, place: Position) -> str:
    """A position as a cursor."""
    return write(kind, place.ms, place.sequence)


def read_position(kind: str, cursor: str) -> Position:
    """The inverse of `write_position`; raises `BadCursorError`."""
    ms, sequence = read(kind, (int, int), cursor)
    if not (0 <= int(ms) <= MOST_MS and 0 <= int(sequence) <= MOST_SEQUENCE):
        raise BadCursorError("this cursor is out of range")
    return Position(int(ms), int(sequence))
