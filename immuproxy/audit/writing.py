"""The one writer of the index: takes batches of events in, and old ones out, each with all that follows from them.

Everything here runs in the writer's thread.  What is taken is seen by searches after `Writer.commit`.  A batch is
worked on column by column: a million events are read here, and a function for each value would take most of the time.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import compress, repeat
from typing import Any, TypeVar

from immuproxy.audit import schema, tags
from immuproxy.audit.record.rows import FIELDS, FLAGS, SEPARATOR
from immuproxy.audit.stream import Raw
from immuproxy.audit.words import Words, forget_word
from immuproxy.ledger.model import Action

Columns = Mapping[str, Sequence[Any]]
"""Events as ``events`` has them, the values of each field in the order of ``place``: words are numbers."""

T = TypeVar("T")

_COLUMNS = ("place", *FIELDS)
_NO_TEXTS = ("",) * len(FIELDS)

_INSERT = f"INSERT INTO events VALUES ({', '.join('?' * len(_COLUMNS))})"
_COUNT = (
    "INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (kind, unit, at, word, other) DO UPDATE SET n = n + excluded.n"
)


class Writer:
    """Writes to one connection, which is in autocommit mode."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """``connection`` has the tables of `schema.TABLES`."""
        self._connection = connection
        self._words = {name: Words(connection, name) for name in FIELDS}
        self._readers = [self._reader(name) for name in FIELDS]

    def take(self, batch: Sequence[Raw], *, complete: bool | None = None) -> int:
        """Take in events that lie all above, or all below, those that are there; how many could be read.

        ``complete``: whether there are older ones in the stream no more; None leaves it as it was.
        """
        self._begin()
        taken = self._read(batch)
        self._connection.executemany(_INSERT, zip(*(taken[name] for name in _COLUMNS), strict=True))
        self._connection.executemany("INSERT INTO uses VALUES (?, ?)", self._postings(taken))
        self._count(taken, 1)
        places = [place for place, _ in batch]
        tags.take(self._connection, min(places, default=0), max(places, default=0))
        low, high, was_complete = self.state()
        places += [place for place in (low, high) if place is not None]
        self._connection.execute(
            "UPDATE state SET low = ?, high = ?, complete = ?",
            (min(places, default=None), max(places, default=None), was_complete if complete is None else complete),
        )
        return len(taken["place"])

    def forget(self, before: int, most: int) -> int:
        """Take out some of the oldest events, those whose place is below ``before``; how many went."""
        self._begin()
        cursor = self._connection.execute("SELECT * FROM events WHERE place < ? ORDER BY place LIMIT ?", (before, most))
        rows = cursor.fetchall()
        if not rows:
            return 0
        going, end = _by_column(rows), rows[-1][0] + 1
        postings = self._postings(going)
        self._connection.executemany("DELETE FROM uses WHERE word = ? AND place = ?", postings)
        self._connection.execute("DELETE FROM events WHERE place < ?", (end,))
        self._count(going, -1)
        self._connection.execute("UPDATE state SET low = ?", (end,))
        tags.forget(self._connection, set(zip(going["repository"], going["tag"], strict=True)), end)
        for word in {word for word, _ in postings}:
            forget_word(self._connection, word)
        self._forget_known()
        return len(rows)

    def state(self) -> tuple[int | None, int | None, bool]:
        """``low``, ``high`` and ``complete`` of `schema.TABLES`."""
        low, high, complete = self._connection.execute("SELECT low, high, complete FROM state").fetchone()
        return low, high, bool(complete)

    def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Ask what searches may not see yet."""
        return question(self._connection)

    def reopen(self) -> None:
        """There are older events in the stream after all."""
        self._begin()
        self._connection.execute("UPDATE state SET complete = 0")

    def pages(self) -> int:
        """How many pages are in use."""
        used = self._connection.execute(
            "SELECT page_count - freelist_count FROM pragma_page_count, pragma_freelist_count"
        )
        return int(used.fetchone()[0])

    def commit(self) -> None:
        """Let searches see what was written."""
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")

    def roll_back(self) -> None:
        """Take back what was not committed, after an error."""
        self._forget_known()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")

    def _read(self, batch: Sequence[Raw]) -> Columns:
        """What is no event is left out; the audit's script writes none such."""
        try:
            return self._columns(batch)
        except ValueError:
            return self._columns([raw for raw in batch if is_readable(raw[1])])

    def _columns(self, batch: Sequence[Raw]) -> Columns:
        texts = zip(*(_texts(raw) for _, raw in batch), strict=True) if batch else repeat(())
        columns = {name: reader(column) for name, reader, column in zip(FIELDS, self._readers, texts, strict=False)}
        columns["time"] = [time or 0 for time in columns["time"]]
        return columns | {"place": [place for place, _ in batch]}

    def _reader(self, name: str) -> Callable[[Iterable[str]], list[Any]]:
        """What makes the values in ``events`` of the texts of a field."""
        if name in schema.NUMERIC:
            return lambda texts: [schema.number(text) for text in texts]
        if name in FLAGS:
            return lambda texts: [int(text == "1") for text in texts]
        words = self._words[name]
        if name in schema.PACKED:
            return lambda texts: [(schema.packed(name, text) or words[text]) if text else None for text in texts]
        return lambda texts: list(map(words.__getitem__, texts))

    def _word(self, name: str, text: str) -> int:
        return self._words[name].number(text)

    def _postings(self, events: Columns) -> list[tuple[int, int]]:
        """Words and places, ascending."""
        places, found = events["place"], []
        for name in schema.POSTED:
            found += [(word, place) for word, place in zip(events[name], places, strict=True) if type(word) is int]
        shadow, odd = self._word("shadow", schema.YES), self._word("time", schema.ODD)
        found += [(shadow, place) for place in compress(places, events["shadow"])]
        times = zip(places, events["time"], strict=True)
        found += [(odd, place) for place, time in times if schema.is_odd(place, time)]
        return sorted(found)

    def _count(self, events: Columns, sign: int) -> None:
        counted: Counter[tuple[int, int, int, int, int]] = Counter()
        for kind, found in self._kinds(events):
            hours = Counter((schema.ms_of(place) // schema.HOUR, word, other) for place, word, other in found)
            for unit in schema.UNITS[kind]:
                for (hour, word, other), n in hours.items():
                    counted[kind, unit, hour * schema.HOUR // unit if unit else 0, word, other] += n
        self._connection.executemany(_COUNT, [(*key, sign * n) for key, n in sorted(counted.items())])
        if sign < 0:
            self._connection.executemany(
                "DELETE FROM counts WHERE kind = ? AND unit = ? AND at = ? AND word = ? AND other = ? AND n <= 0",
                list(counted),
            )

    def _kinds(self, events: Columns) -> Iterator[tuple[int, Iterable[tuple[int, int, int]]]]:
        """Kinds of ``counts``, each with the place, word and other of the events that count there."""
        place, action, outcome = events["place"], events["action"], events["outcome"]
        repository, rule = events["repository"], events["rule"]
        exception = self._exception
        yield schema.ATTEMPTS, zip(place, action, outcome, strict=True)
        yield schema.REPOSITORIES, zip(place, repository, [int(each == exception) for each in action], strict=True)
        yield schema.RULES, zip(place, rule, repeat(0), strict=False)
        yield schema.SHADOWED, zip(compress(place, events["shadow"]), repeat(0), repeat(0), strict=False)
        for ranked in schema.RANKED:
            word = self._word("outcome", ranked)
            chosen = [each == word for each in outcome]
            yield schema.PLACES[ranked], compress(zip(place, repository, events["tag"], strict=True), chosen)
            yield schema.PEOPLE[ranked], compress(zip(place, events["actor"], rule, strict=True), chosen)

    @property
    def _exception(self) -> int:
        return self._word("action", Action.EXCEPTION)

    def _forget_known(self) -> None:
        for words in self._words.values():
            words.forget()


def _texts(raw: bytes) -> Sequence[str]:
    """The values of an event, as many as there are `FIELDS`: a newer release may have written more."""
    texts = raw.decode().split(SEPARATOR)
    return (*texts, *_NO_TEXTS[len(texts) :])[: len(FIELDS)]


def is_readable(raw: bytes) -> bool:
    """Whether what stands in the stream is an event."""
    try:
        texts = dict(zip(FIELDS, _texts(raw), strict=True))
        for name in schema.NUMERIC:
            schema.number(texts[name])
    except ValueError:
        return False
    return True


def _by_column(rows: Sequence[Sequence[Any]]) -> Columns:
    """Rows of ``events``."""
    columns = zip(*rows, strict=True) if rows else repeat(())
    return dict(zip(_COLUMNS, columns, strict=False))
