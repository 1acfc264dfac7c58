"""The one writer of the index: takes batches of events in, and old ones out, each with all that follows from them.

Everything here runs in the writer's thread.  What is taken is seen by searches after `Writer.commit`.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from immuproxy.audit import schema
from immuproxy.audit.stream import Raw
from immuproxy.audit.tags import Key, Setting, Tags, moment, sets
from immuproxy.ledger.model import Action
from immuproxy.ledger.record.rows import FIELDS, FLAGS, SEPARATOR

Values = dict[str, Any]
"""An event as ``events`` has it, with its ``place``: words are numbers."""

_MOST_KNOWN = 50_000
"""Words of one field that are remembered with their numbers."""

_SHORTEST = 3
"""Characters of a word that has trigrams."""

_INSERT = f"INSERT INTO events VALUES (:place, {', '.join(f':{name}' for name in FIELDS)})"
_COUNT = (
    "INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (kind, unit, at, word, other) DO UPDATE SET n = n + excluded.n"
)


class Writer:
    """Writes to one connection, which is in autocommit mode."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """``connection`` has the tables of `schema.TABLES`."""
        self._connection = connection
        self._known: dict[str, dict[str, int]] = {name: {} for name in FIELDS}
        self._readers = [self._reader(name) for name in FIELDS]

    def take(self, batch: Sequence[Raw], *, complete: bool | None = None) -> int:
        """Take in events that lie all above, or all below, those that are there; how many could be read.

        ``complete``: whether there are older ones in the stream no more; None leaves it as it was.
        """
        self._begin()
        taken = [values for place, raw in batch if (values := self._values(place, raw))]
        self._connection.executemany(_INSERT, taken)
        self._connection.executemany("INSERT INTO uses VALUES (?, ?)", sorted(self._postings(taken)))
        self._count(taken, 1)
        self._note_tags(taken, going=False)
        low, high, was_complete = self.state()
        places = [place for place, _ in batch] + [place for place in (low, high) if place is not None]
        self._connection.execute(
            "UPDATE state SET low = ?, high = ?, complete = ?",
            (min(places, default=None), max(places, default=None), was_complete if complete is None else complete),
        )
        return len(taken)

    def forget(self, before: int, most: int) -> int:
        """Take out some of the oldest events, those whose place is below ``before``; how many went."""
        self._begin()
        cursor = self._connection.execute("SELECT * FROM events WHERE place < ? ORDER BY place LIMIT ?", (before, most))
        going = [dict(zip(("place", *FIELDS), row, strict=True)) for row in cursor]
        if not going:
            return 0
        postings = set(self._postings(going))
        self._connection.executemany("DELETE FROM uses WHERE word = ? AND place = ?", postings)
        self._connection.execute("DELETE FROM events WHERE place <= ?", (going[-1]["place"],))
        self._count(going, -1)
        self._connection.execute("UPDATE state SET low = ?", (going[-1]["place"] + 1,))
        self._note_tags(going, going=True)
        self._forget_words({word for word, _ in postings})
        return len(going)

    def state(self) -> tuple[int | None, int | None, bool]:
        """``low``, ``high`` and ``complete`` of `schema.TABLES`."""
        low, high, complete = self._connection.execute("SELECT low, high, complete FROM state").fetchone()
        return low, high, bool(complete)

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

    def _values(self, place: int, raw: bytes) -> Values | None:
        """None for what is no event: the audit's script writes none such."""
        try:
            texts = raw.decode().split(SEPARATOR)
            missing = len(FIELDS) - len(texts)
            if missing > 0:
                texts += [""] * missing
            read = zip(FIELDS, self._readers, texts, strict=False)  # a newer release may have written more
            values: Values = {name: reader(text) for name, reader, text in read}
        except ValueError:
            return None
        values["place"] = place
        values["time"] = values["time"] or 0
        return values

    def _reader(self, name: str) -> Callable[[str], Any]:
        """What makes the value in ``events`` of the text of a field."""
        if name in schema.NUMERIC:
            return schema.number
        if name in FLAGS:
            return _flag
        if name in schema.PACKED:
            return partial(self._packed, name)
        return partial(self._word if name in schema.EMPTY_TOO else self._word_or_none, name)

    def _packed(self, name: str, text: str) -> bytes | int | None:
        return (schema.packed(name, text) or self._word(name, text)) if text else None

    def _word_or_none(self, name: str, text: str) -> int | None:
        return self._word(name, text) if text else None

    def _word(self, name: str, text: str) -> int:
        known = self._known[name]
        if (word := known.get(text)) is None:
            if len(known) >= _MOST_KNOWN:
                known.clear()
            word = known[text] = self._find_word(name, text) or self._new_word(name, text)
        return word

    def _find_word(self, name: str, text: str) -> int | None:
        found = self._connection.execute(
            "SELECT id FROM words WHERE field = ? AND text = ?", (schema.NUMBER_OF[name], text)
        ).fetchone()
        return int(found[0]) if found else None

    def _new_word(self, name: str, text: str) -> int:
        folded = schema.folded(text)
        address = schema.address_of(text) if name == "client_address" else None
        word = self._connection.execute(
            "INSERT INTO words (field, text, folded, address) VALUES (?, ?, ?, ?)",
            (schema.NUMBER_OF[name], text, None if folded == text else folded, address),
        ).lastrowid
        if word is None:
            raise RuntimeError("a row has a number")
        if name not in schema.NOT_SHOWN and len(folded) >= _SHORTEST:
            self._connection.execute(
                "INSERT INTO trigrams (rowid, text) VALUES (?, ?)", (word, schema.trigram_text(folded))
            )
        return word

    def _postings(self, events: Iterable[Values]) -> Iterator[tuple[int, int]]:
        shadow, odd = self._word("shadow", schema.YES), self._word("time", schema.ODD)
        for values in events:
            place = values["place"]
            for name in schema.POSTED:
                word = values[name]
                if type(word) is int:
                    yield word, place
            if values["shadow"]:
                yield shadow, place
            if schema.is_odd(place, values["time"]):
                yield odd, place

    def _count(self, events: Sequence[Values], sign: int) -> None:
        counted = Counter(
            (kind, unit, schema.ms_of(values["place"]) // unit if unit else 0, word, other)
            for values in events
            for kind, word, other in self._kinds(values)
            for unit in schema.UNITS[kind]
        )
        self._connection.executemany(_COUNT, [(*key, sign * n) for key, n in counted.items()])
        if sign < 0:
            self._connection.executemany(
                "DELETE FROM counts WHERE kind = ? AND unit = ? AND at = ? AND word = ? AND other = ? AND n <= 0",
                list(counted),
            )

    def _kinds(self, values: Values) -> Iterator[tuple[int, int, int]]:
        outcome, repository = values["outcome"], values["repository"]
        yield schema.ATTEMPTS, values["action"], outcome
        yield schema.REPOSITORIES, repository, int(values["action"] == self._exception)
        yield schema.RULES, values["rule"], 0
        if values["shadow"]:
            yield schema.SHADOWED, 0, 0
        for ranked in schema.RANKED:
            if outcome == self._word("outcome", ranked):
                yield schema.PLACES[ranked], repository, values["tag"]
                yield schema.PEOPLE[ranked], values["actor"], values["rule"]

    @property
    def _exception(self) -> int:
        return self._word("action", Action.EXCEPTION)

    def _note_tags(self, events: Sequence[Values], *, going: bool) -> None:
        tags, exception, untagged = Tags(self._connection), self._exception, self._word("tag", "")
        note = tags.drop if going else tags.take
        words = {word: text for field in ("action", "outcome") for text, word in self._texts(field)}
        for values in events:
            if values["tag"] != untagged and values["action"] != exception:
                note((values["repository"], values["tag"]), values["place"], _setting(values, words))
        tags.write(partial(self._events_of, words))

    def _texts(self, field: str) -> list[tuple[str, int]]:
        rows = self._connection.execute("SELECT text, id FROM words WHERE field = ?", (schema.NUMBER_OF[field],))
        return [(text, word) for text, word in rows]

    def _events_of(self, words: Mapping[int, str], key: Key) -> Iterator[tuple[int, Setting | None]]:
        cursor = self._connection.execute(
            "SELECT e.* FROM uses u CROSS JOIN events e ON e.place = u.place"
            " WHERE u.word = ? AND e.repository = ? AND e.tag = ? AND e.action <> ?",
            (self._rarer(key), *key, self._exception),
        )
        for row in cursor:
            values = dict(zip(("place", *FIELDS), row, strict=True))
            yield values["place"], _setting(values, words)

    def _rarer(self, words: Sequence[int]) -> int:
        def many(word: int) -> int:
            counted = self._connection.execute(
                "SELECT count(*) FROM (SELECT 1 FROM uses WHERE word = ? LIMIT 10000)", (word,)
            )
            return int(counted.fetchone()[0])

        return min(words, key=many)

    def _forget_words(self, words: Iterable[int]) -> None:
        """Forget those that no event has any more."""
        for word in words:
            found = self._connection.execute(
                "SELECT field, coalesce(folded, text) FROM words"
                " WHERE id = ? AND NOT EXISTS (SELECT 1 FROM uses WHERE word = ?)",
                (word, word),
            ).fetchone()
            if found and found[0] not in {schema.NUMBER_OF["shadow"], schema.NUMBER_OF["time"]}:
                self._forget_word(word, *found)
        self._forget_known()

    def _forget_word(self, word: int, field: int, text: str) -> None:
        if FIELDS[field] not in schema.NOT_SHOWN and len(text) >= _SHORTEST:
            self._connection.execute(
                "INSERT INTO trigrams (trigrams, rowid, text) VALUES ('delete', ?, ?)",
                (word, schema.trigram_text(text)),
            )
        self._connection.execute("DELETE FROM words WHERE id = ?", (word,))

    def _forget_known(self) -> None:
        for known in self._known.values():
            known.clear()


def _flag(text: str) -> int:
    return int(text == "1")


def _setting(values: Values, words: Mapping[int, str]) -> Setting | None:
    digest, time = values["digest"], values["time"]
    gone = sets(words[values["action"]], words[values["outcome"]], has_digest=digest is not None)
    if gone is None or isinstance(time, str):
        return None
    return Setting(moment(time, values["place"]), None if gone else digest, values["actor"], gone)
