"""The words of one field, as the writer knows them: their numbers, found or given.  Uses the writer's connection.

A `dict` and no cache of a library: what is remembered costs no call, and is forgotten as a whole, because the numbers
may have been taken back.
"""

from __future__ import annotations

import sqlite3

from immuproxy.audit import schema
from immuproxy.audit.record.rows import FIELDS

_MOST_KNOWN = 50_000
"""Words of one field that are remembered with their numbers."""

_SHORTEST = 3
"""Characters of a word that has trigrams."""


class Words(dict[str, int | None]):
    """Text to number, by asking for the item: one that is not remembered is looked up, or gets a number.

    The empty text has none in fields of which "none" cannot be asked for.
    """

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        """``name`` is the field's."""
        super().__init__()
        self._connection = connection
        self._name = name
        self.forget()

    def forget(self) -> None:
        """Remember none, for instance because the numbers were taken back."""
        self.clear()
        if self._name not in schema.EMPTY_TOO:
            self[""] = None

    def number(self, text: str) -> int:
        """The number of a text that is not empty, or may be."""
        word = self[text]
        if word is None:
            raise ValueError(f"no word of {self._name} is empty")
        return word

    def __missing__(self, text: str) -> int:
        """Takes place in the writer's transaction."""
        if len(self) >= _MOST_KNOWN:
            self.forget()
        word = self[text] = self._made(text) or self._found(text)
        return word

    def _made(self, text: str) -> int | None:
        """None where there is one."""
        folded = schema.folded(text)
        address = schema.address_of(text) if self._name == "client_address" else None
        cursor = self._connection.execute(
            "INSERT INTO words (field, text, folded, address) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (schema.NUMBER_OF[self._name], text, None if folded == text else folded, address),
        )
        if not cursor.rowcount:
            return None
        word = cursor.lastrowid
        if has_trigrams(self._name, folded):
            self._connection.execute(
                "INSERT INTO trigrams (rowid, text) VALUES (?, ?)", (word, schema.trigram_text(folded))
            )
        return word

    def _found(self, text: str) -> int:
        found = self._connection.execute(
            "SELECT id FROM words WHERE field = ? AND text = ?", (schema.NUMBER_OF[self._name], text)
        ).fetchone()
        return int(found[0])


def forget_word(connection: sqlite3.Connection, word: int) -> None:
    """Take a word out that no event has any more; one that some have, or that is always there, stays."""
    found = connection.execute(
        "SELECT field, coalesce(folded, text) FROM words"
        " WHERE id = ? AND NOT EXISTS (SELECT 1 FROM uses WHERE word = ?)",
        (word, word),
    ).fetchone()
    if not found or found[0] in {schema.NUMBER_OF["shadow"], schema.NUMBER_OF["time"]}:
        return
    if has_trigrams(FIELDS[found[0]], found[1]):
        connection.execute(
            "INSERT INTO trigrams (trigrams, rowid, text) VALUES ('delete', ?, ?)",
            (word, schema.trigram_text(found[1])),
        )
    connection.execute("DELETE FROM words WHERE id = ?", (word,))


def has_trigrams(name: str, folded: str) -> bool:
    """Whether text is looked for in a word of that field."""
    return name not in schema.NOT_SHOWN and len(folded) >= _SHORTEST
