"""A question to the index ends in time: what is still at work then is interrupted."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

SECONDS = 5.0
"""What a question may take that has one answer or none: a chart, a ranking, what the words of a search stand for."""

OPCODES = 5_000
"""Steps of SQLite between two looks at the clock."""


class OutOfTimeError(Exception):
    """The question was cut: there is no answer, for a part of one would be wrong."""

    def __str__(self) -> str:
        """Why, in words."""
        return f"it took more than {SECONDS:.0f} seconds"


@contextmanager
def ends_by(connection: sqlite3.Connection, moment: float) -> Iterator[None]:
    """Interrupt what is asked inside once `time.monotonic` is past ``moment``; raises `OutOfTimeError`.

    Where it is past that at the beginning, nothing is asked: nobody may be waiting for the answer any more.  Only for
    what reads: an interrupted write would take the whole transaction with it.
    """
    if monotonic() > moment:
        raise OutOfTimeError
    connection.set_progress_handler(lambda: monotonic() > moment, OPCODES)
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        raise OutOfTimeError from error
    finally:
        connection.set_progress_handler(None, 0)


def last_moment() -> float:
    """When a question that begins now has to end, as `time.monotonic` counts."""
    return monotonic() + SECONDS
