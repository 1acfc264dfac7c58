"""From a search to SQL: one condition for each of its keys, and the events from which a condition may be started.

Values are looked up in ``words`` first, so that events are compared by number.  What stands for too many words (a
pattern, a text that occurs everywhere) is asked of each event as it is walked by.  Patterns run on a linear-time
engine, outside of SQL: its own could be made to take for ever.
"""

from __future__ import annotations

import ipaddress
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import re2

from immuproxy.audit import schema
from immuproxy.audit.search import TEXT, Search, Term
from immuproxy.ledger.record.rows import FIELDS

MOST_WORDS = 5_000
"""Words that a condition is resolved to."""

MOST_HITS = 10_000
"""Events that are gathered to start from, and that one step of a search looks at."""

_MOST_CANDIDATES = 4 * MOST_WORDS
_INLINE = 16
_TRIGRAM = 3
_TRIGRAMS = 12
_LONGEST_DIGEST = 64
COLUMN_OF = {
    "repo": "repository",
    "tag": "tag",
    "actor": "actor",
    "rule": "rule",
    "outcome": "outcome",
    "action": "action",
    "agent": "user_agent",
    "ip": "client_address",
}
_TEXT_OF_WORD = "coalesce(folded, text)"
_HEX = re.compile(r"[0-9a-f]*", re.ASCII)
_WILD = re.compile(r"[*?]+")
_PLACES = {
    "id": "SELECT place FROM events WHERE id = ? UNION SELECT place FROM events WHERE request_id = ?",
    "digest": (
        "SELECT place FROM events WHERE digest BETWEEN ? AND ?"
        " UNION SELECT place FROM events WHERE previous_digest BETWEEN ? AND ?"
    ),
}

Matches = Callable[[str], bool]


@dataclass(slots=True)
class Condition:
    """A part of a WHERE over ``events e``.

    ``starts``: queries of the places where it may hold, all of them; none where that is not known or not worth it.
    ``word``: where it holds for the events of one word, that word.
    """

    sql: str
    arguments: list[object] = field(default_factory=list)
    starts: list[tuple[str, list[object]]] | None = None
    word: int | None = None


NEVER = Condition("0", starts=[])


class Compiler:
    """Makes conditions for one question; what they refer to lives on its connection, in ``chosen`` and functions."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """The connection has the temporary tables of `prepare`."""
        self._connection = connection
        self._numbers = iter(range(1_000))

    def conditions(self, searches: Sequence[Search]) -> list[Condition]:
        """All of them must hold; those that hold for every event are left out."""
        self._connection.execute("DELETE FROM chosen")
        found = [condition for search in searches for condition in self._of_search(search)]
        return [condition for condition in found if condition.sql != "1"]

    def _of_search(self, search: Search) -> Iterator[Condition]:
        for key in dict.fromkeys(term.key for term in search.terms if not term.exclude and term.key != TEXT):
            yield _any([self._of_term(term) for term in search.values(key)])
        for term in search.values(TEXT):
            yield self._of_term(term)
        for term in search.terms:
            if term.exclude:
                yield _not(self._of_term(term))
        if search.since:
            yield Condition("e.time >= ?", [search.since.at])
        if search.until:
            yield Condition("e.time < ?", [search.until.at])

    def _of_term(self, term: Term) -> Condition:
        match term.key:
            case "id":
                return self._id(_storable(term.value))
            case "digest":
                return self._digest(term.value)
            case "shadow":
                return self._shadow(yes=term.value == "yes")
            case "ip":
                return self._address(term.value)
            case key if key == TEXT:
                return self._text(schema.folded(_storable(term.value)))
            case key:
                return self._value(term, COLUMN_OF[key])

    # Values --------------------------------------------------------------------------------------------------------

    def _value(self, term: Term, name: str) -> Condition:
        number = schema.NUMBER_OF[name]
        if term.exact:
            return self._column(name, "text = ?", [_storable(term.value)])
        if not term.value.replace("**" if term.key == "repo" else "*", ""):
            return Condition("1")
        matches = pattern_test(term.value, path=term.key == "repo")
        candidates = self._rows("id, text", *_candidates(number, _storable(term.value)))
        if candidates is not None:
            return self._chosen([word for word, text in candidates if matches(text)], name)
        return self._per_word(f"id = e.{name}", (self._function(matches), []))

    def _address(self, value: str) -> Condition:
        network = ipaddress.ip_network(value)
        network = _mapped(network) or network
        first, last = network.network_address.packed, network.broadcast_address.packed
        inside = "address BETWEEN ? AND ? AND length(address) = ?"
        return self._column("client_address", inside, [first, last, len(first)])

    def _shadow(self, *, yes: bool) -> Condition:
        if not yes:
            return Condition("e.shadow = 0")
        words = self._words("field = ? AND text = ?", [schema.NUMBER_OF["shadow"], schema.YES])
        return _posted(Condition("e.shadow = 1"), words)

    def odd(self) -> Condition:
        """Whether the event's time is not that of its place; to be started from."""
        words = self._words("field = ? AND text = ?", [schema.NUMBER_OF["time"], schema.ODD])
        return _posted(Condition("1"), words) if words else NEVER

    def _id(self, value: str) -> Condition:
        if not value:
            return Condition("(e.id IS NULL OR e.request_id IS NULL)")
        ids = schema.packed("id", value) or self._one_word("id", value)
        requests = schema.packed("request_id", value) or self._one_word("request_id", value)
        arguments: list[object] = [ids, requests]
        return Condition(
            "(ifnull(e.id = ?, 0) OR ifnull(e.request_id = ?, 0))", arguments, [(_PLACES["id"], arguments)]
        )

    def _digest(self, value: str) -> Condition:
        digits = value.removeprefix("sha256:")
        low = bytes.fromhex(digits.ljust(_LONGEST_DIGEST, "0"))
        high = bytes.fromhex(digits.ljust(_LONGEST_DIGEST, "f"))
        arguments: list[object] = [low, high, low, high]
        whole = Condition(
            "(ifnull(e.digest BETWEEN ? AND ?, 0) OR ifnull(e.previous_digest BETWEEN ? AND ?, 0))",
            arguments,
            [(_PLACES["digest"], arguments)],
        )
        begins: tuple[str, list[object]] = ("text >= ? AND text < ?", [value, _behind(value)])
        return _any([whole, self._column("digest", *begins), self._column("previous_digest", *begins)])

    def _column(self, name: str, where: str, arguments: list[object]) -> Condition:
        """Whether the word in a column is one of those in ``words``."""
        words = self._words(f"field = {schema.NUMBER_OF[name]} AND {where}", arguments)
        if words is None:
            return self._per_word(f"id = e.{name}", (where, arguments))
        return self._chosen(words, name)

    # Text ----------------------------------------------------------------------------------------------------------

    def _text(self, text: str) -> Condition:
        found = [self._text_in_words(text)]
        found += [Condition(sql, arguments) for sql, arguments in _in_digits(text)]
        if ":" in text:
            found.append(self._reference(text))
        return _any(found)

    def _text_in_words(self, text: str) -> Condition:
        occurs = f"instr({_TEXT_OF_WORD}, ?)"
        if len(text) >= _TRIGRAM and self._are_few(_query(text)):
            among = "id IN (SELECT rowid FROM trigrams WHERE trigrams MATCH ?)"
            rows = self._rows("id, field", f"{among} AND {occurs}", [_query(text), text])
            if rows is not None:
                posted = all(FIELDS[number] in schema.POSTED for _, number in rows)
                return self._chosen([word for word, _ in rows], *schema.TEXTS, posted=posted)
        return self._per_word(f"id IN ({_columns(schema.TEXTS)})", (occurs, [text]))

    def _are_few(self, query: str) -> bool:
        found = self._connection.execute(
            "SELECT 1 FROM trigrams WHERE trigrams MATCH ? LIMIT 1 OFFSET ?", (query, _MOST_CANDIDATES)
        ).fetchone()
        return found is None

    def _reference(self, text: str) -> Condition:
        """Text over the colon of ``repository:tag``."""
        of = "(SELECT coalesce(folded, text) FROM words WHERE id = {})"
        return Condition(f"instr({of.format('e.repository')} || ':' || {of.format('e.tag')}, ?)", [text])

    # What SQL is made of -------------------------------------------------------------------------------------------

    def _chosen(self, words: list[int], *names: str, posted: bool = True) -> Condition:
        """Whether one of some columns has one of some words."""
        if not words:
            return NEVER
        if len(words) <= _INLINE:
            listed = ", ".join(map(str, words))
            sql = " OR ".join(f"ifnull(e.{name} IN ({listed}), 0)" for name in names)
        else:
            number = next(self._numbers)
            self._connection.executemany("INSERT INTO chosen VALUES (?, ?)", [(number, word) for word in words])
            listed = f"SELECT word FROM chosen WHERE number = {number}"
            sql = f"EXISTS ({listed} AND word IN ({_columns(names)}))"
        starts = [(f"SELECT place FROM uses WHERE word IN ({listed})", list[object]())]
        return Condition(f"({sql})", [], starts if posted else None, words[0] if posted and len(words) == 1 else None)

    def _per_word(self, which: str, test: tuple[str, list[object]]) -> Condition:
        sql, arguments = test
        return Condition(f"EXISTS (SELECT 1 FROM words WHERE {which} AND {sql})", arguments)

    def _function(self, matches: Matches) -> str:
        name = f"matches_{next(self._numbers)}"
        self._connection.create_function(name, 1, matches, deterministic=True)
        return f"{name}(text)"

    def _one_word(self, name: str, text: str) -> int | None:
        words = self._words("field = ? AND text = ?", [schema.NUMBER_OF[name], text])
        return words[0] if words else None

    def _words(self, where: str, arguments: list[object]) -> list[int] | None:
        rows = self._rows("id", where, arguments)
        return None if rows is None else [row[0] for row in rows]

    def _rows(self, columns: str, where: str, arguments: list[object]) -> list[Any] | None:
        """Rows of ``words``; None where they are too many."""
        rows = self._connection.execute(
            f"SELECT {columns} FROM words WHERE {where} LIMIT ?",
            (*arguments, MOST_WORDS + 1),
        ).fetchall()
        return None if len(rows) > MOST_WORDS else rows


def prepare(connection: sqlite3.Connection) -> None:
    """Make the temporary tables of a connection that asks."""
    connection.executescript(
        """
        PRAGMA temp_store = memory;
        CREATE TEMP TABLE chosen (number INTEGER, word INTEGER, PRIMARY KEY (number, word)) WITHOUT ROWID;
        CREATE TEMP TABLE hits (place INTEGER PRIMARY KEY);
        """
    )


def pattern_test(pattern: str, *, path: bool) -> Matches:
    """A test for values.  In a ``path`` ``*`` and ``?`` stop at a slash, and ``**/`` also stands for nothing."""
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        if path and pattern.startswith("**/", at) and (at == 0 or pattern[at - 1] == "/"):
            parts.append("(?:.*/)?")
            at += 3
        elif path and pattern.startswith("**", at):
            parts.append(".*")
            at += 2
        else:
            wild = {"*": "[^/]*", "?": "[^/]"} if path else {"*": ".*", "?": "."}
            parts.append(wild.get(pattern[at]) or re2.escape(pattern[at]))
            at += 1
    # A set of one: asking it is one native call, where `fullmatch` builds a match object (six times slower).
    compiled = re2.Set.FullMatchSet()
    compiled.Add("(?s)" + "".join(parts))
    compiled.Compile()
    return lambda value: bool(compiled.Match(value))


def _behind(text: str) -> str:
    """A text behind all that begin so."""
    return text + "\U0010ffff" * 300


def _columns(names: Sequence[str]) -> str:
    return ", ".join(f"e.{name}" for name in names)


def _storable(text: str) -> str:
    """As text stands in the stream: what is no character is a question mark there."""
    return text.encode(errors="replace").decode()


def _mapped(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> ipaddress.IPv4Network | None:
    """IPv4 inside IPv6, as client addresses are kept."""
    first = getattr(network.network_address, "ipv4_mapped", None)
    prefix = network.prefixlen - 96
    return ipaddress.IPv4Network((first, prefix)) if first is not None and prefix >= 0 else None


def _candidates(number: int, pattern: str) -> tuple[str, list[object]]:
    """Which words may match a pattern: by its beginning, or by what must occur in it."""
    beginning = _WILD.split(pattern)[0]
    if beginning:
        return "field = ? AND text >= ? AND text < ?", [number, beginning, _behind(beginning)]
    longest = schema.folded(max(_WILD.split(pattern.replace("**/", "*")), key=len))
    if len(longest) >= _TRIGRAM:
        return "id IN (SELECT rowid FROM trigrams WHERE trigrams MATCH ?) AND field = ?", [_query(longest), number]
    return "field = ?", [number]


def _query(text: str) -> str:
    """What FTS5 looks for: some of the text's trigrams; it is folded already."""
    text = schema.trigram_text(text)
    every = [text[at : at + _TRIGRAM] for at in range(len(text) - _TRIGRAM + 1)]
    some = every[:: -(-len(every) // _TRIGRAMS)]
    return " AND ".join('"' + trigram.replace('"', '""') + '"' for trigram in some)


def _in_digits(text: str) -> Iterator[tuple[str, list[object]]]:
    """Text in ids and digests that are kept as bytes."""
    if _HEX.fullmatch(text):
        for name in ("id", "request_id"):
            yield f"(typeof(e.{name}) = 'blob' AND instr(lower(hex(e.{name})), ?))", [text]
    head, colon, digits = text.partition(":")
    whole = "sha256".endswith(head) and _HEX.fullmatch(digits) if colon else _HEX.fullmatch(text) or text in "sha256"
    if whole:
        for name in ("digest", "previous_digest"):
            yield f"(typeof(e.{name}) = 'blob' AND instr('sha256:' || lower(hex(e.{name})), ?))", [text]


def _any(conditions: Sequence[Condition]) -> Condition:
    possible = [condition for condition in conditions if condition is not NEVER]
    if not possible:
        return NEVER
    if any(condition.sql == "1" for condition in possible):
        return Condition("1")
    if len(possible) == 1:
        return possible[0]
    starts = [condition.starts for condition in possible]
    return Condition(
        f"({' OR '.join(condition.sql for condition in possible)})",
        [argument for condition in possible for argument in condition.arguments],
        None if None in starts else [start for each in starts if each is not None for start in each],
    )


def _not(condition: Condition) -> Condition:
    if condition is NEVER:
        return Condition("1")
    return NEVER if condition.sql == "1" else Condition(f"NOT {condition.sql}", condition.arguments)


def _posted(condition: Condition, words: list[int] | None) -> Condition:
    if words:
        condition.starts = [("SELECT place FROM uses WHERE word = ?", [words[0]])]
        condition.word = words[0]
    return condition
