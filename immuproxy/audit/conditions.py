"""From a search to SQL: one condition for each of its keys, and the events among which a condition may hold.

Values are looked up in ``words`` first, so that events are compared by number.  What stands for too many words (a
pattern, a text that occurs everywhere) is asked of each event as it is walked by.  Patterns run on a linear-time
engine, outside of SQL: its own could be made to take for ever.
"""

from __future__ import annotations

import ipaddress
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from immuproxy.audit import schema
from immuproxy.audit.record.rows import FIELDS
from immuproxy.audit.search import TEXT, WILDCARDS, Search, Term, pattern_test

MOST_WORDS = 5_000
"""Words that are looked up for one condition."""

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
_IDS, _DIGESTS = ("id", "request_id"), ("digest", "previous_digest")
_FOLDED = "coalesce(folded, text)"
_HEX = re.compile(r"[0-9a-f]*", re.ASCII)
_HAS = "SELECT place FROM uses WHERE word IN ({})"
_FLAGGED = "SELECT id FROM words WHERE field = {} AND text = '{}'"


@dataclass(frozen=True, slots=True)
class Condition:
    """A part of a WHERE over ``events e``, never NULL.

    ``places``: a query of the places where it may hold, all of them; None where that is not known.  ``ordered``: it
    gives them in order without sorting, because they are those of one word.
    """

    sql: str
    arguments: list[object] = field(default_factory=list)
    places: str | None = None
    ordered: bool = False


ODD = Condition("1", places=_HAS.format(_FLAGGED.format(schema.NUMBER_OF["time"], schema.ODD)))
"""Where the event's time may not be that of its place (`schema.is_odd`)."""

SHADOWED = Condition("(e.shadow = 1)", places=_HAS.format(_FLAGGED.format(schema.NUMBER_OF["shadow"], schema.YES)))
UNSHADOWED = Condition("(e.shadow = 0)")


class Compiler:
    """Makes conditions for one question; what they refer to lives on its connection, in ``chosen`` and functions."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """The connection has the temporary tables of `prepare`."""
        self._connection = connection
        self._numbers = iter(range(1_000))

    def conditions(self, searches: Sequence[Search]) -> list[Condition]:
        """All of them must hold."""
        self._connection.execute("DELETE FROM chosen")
        return [condition for search in searches for condition in self._of_search(search)]

    def _of_search(self, search: Search) -> Iterator[Condition]:
        for key in dict.fromkeys(term.key for term in search.terms if not term.exclude and term.key != TEXT):
            yield _any([self._of_term(term) for term in search.values(key)])
        for term in search.values(TEXT):
            yield self._of_term(term)
        for term in search.terms:
            if term.exclude:
                condition = self._of_term(term)
                yield Condition(f"NOT {condition.sql}", condition.arguments)
        if search.since:
            yield Condition("e.time >= ?", [search.since.at])
        if search.until:
            yield Condition("e.time < ?", [search.until.at])

    def _of_term(self, term: Term) -> Condition:
        value = term.value.encode(errors="replace").decode()  # as in the stream: no character is a question mark
        match term.key:
            case "id":
                return self._id(value)
            case "digest":
                return self._digest(value)
            case "shadow":
                return SHADOWED if value == "yes" else UNSHADOWED
            case "ip":
                return self._address(value)
            case key if key == TEXT:
                return self._text(schema.folded(value))
            case key:
                return self._value(key, value, exact=term.exact)

    # Values --------------------------------------------------------------------------------------------------------

    def _value(self, key: str, value: str, *, exact: bool) -> Condition:
        if exact:
            return self._words([COLUMN_OF[key]], "text = ?", [value])
        return self._pattern(value, COLUMN_OF[key], path=key == "repo")

    def _pattern(self, pattern: str, name: str, *, path: bool) -> Condition:
        if not pattern.replace("**" if path else "*", ""):
            return Condition("1")
        function = f"matches_{next(self._numbers)}"
        self._connection.create_function(function, 1, pattern_test(pattern, path=path), deterministic=True)
        beginning = WILDCARDS.split(pattern)[0]
        if beginning:
            return self._words([name], *_begins(beginning), test=f"{function}(text)")
        longest = max(WILDCARDS.split(pattern.replace("**/", "*")), key=len)
        return self._words([name], test=f"{function}(text)", holding=schema.folded(longest))

    def _address(self, value: str) -> Condition:
        network = ipaddress.ip_network(value)
        network = _mapped(network) or network
        first, last = network.network_address.packed, network.broadcast_address.packed
        inside = "address BETWEEN ? AND ? AND length(address) = ?"
        return self._words(["client_address"], inside, [first, last, len(first)])

    def _id(self, value: str) -> Condition:
        if not value:
            return Condition("(e.id IS NULL OR e.request_id IS NULL)")
        return _in_columns({name: f"= {self._literal(name, value)}" for name in _IDS})

    def _literal(self, name: str, value: str) -> str:
        if packed := schema.packed(name, value):
            return f"x'{packed.hex()}'"
        found = self._connection.execute(
            "SELECT id FROM words WHERE field = ? AND text = ?", (schema.NUMBER_OF[name], value)
        ).fetchone()
        return str(found[0]) if found else "NULL"

    def _digest(self, value: str) -> Condition:
        digits = value.removeprefix("sha256:")
        between = f"BETWEEN x'{digits.ljust(_LONGEST_DIGEST, '0')}' AND x'{digits.ljust(_LONGEST_DIGEST, 'f')}'"
        return _any([_in_columns(dict.fromkeys(_DIGESTS, between)), self._words(_DIGESTS, *_begins(value))])

    def _text(self, text: str) -> Condition:
        found = [self._words(schema.TEXTS, "1", [text], test=f"instr({_FOLDED}, ?)", holding=text)]
        found += [Condition(sql, [text]) for sql in _in_digits(text)]
        if ":" in text:
            folded = f"(SELECT {_FOLDED} FROM words WHERE id = e.{{}})"
            joined = f"{folded.format('repository')} || ':' || {folded.format('tag')}"
            found.append(Condition(f"instr({joined}, ?)", [text]))
        return _any(found)

    # Words ---------------------------------------------------------------------------------------------------------

    def _words(
        self,
        names: Sequence[str],
        among: str = "1",
        arguments: Sequence[object] = (),
        *,
        test: str = "1",
        holding: str = "",
    ) -> Condition:
        """Whether one of some columns has a word for which ``among`` and ``test`` are true.

        ``among`` is what the indexes of ``words`` know, and ``holding`` a folded text that must occur in the word: only
        what is left then is tested.  One of them has the ``arguments``, or the test.
        """
        columns = ", ".join(f"e.{name}" for name in names)
        numbers = ", ".join(str(schema.NUMBER_OF[name]) for name in names)
        looked_at = self._connection.execute(
            *_look(f"field IN ({numbers})", among, test, arguments, holding)
        ).fetchall()
        if len(looked_at) > MOST_WORDS:
            sql = f"EXISTS (SELECT 1 FROM words WHERE id IN ({columns}) AND {among} AND {test})"
            return Condition(sql, [*arguments])
        found = [(word, number) for word, number, holds in looked_at if holds]
        chosen = self._chosen([word for word, _ in found])
        posted = all(FIELDS[number] in schema.POSTED for _, number in found)
        sql = f"EXISTS (SELECT 1 FROM ({chosen}) WHERE word IN ({columns}))"
        if len(found) == 1:
            sql = f"ifnull({chosen} IN ({columns}), 0)"
        return Condition(sql, places=_HAS.format(chosen) if posted else None, ordered=len(found) == 1)

    def _chosen(self, words: Sequence[int]) -> str:
        """As SQL: one number, or a query of several."""
        if len(words) == 1:
            return str(words[0])
        number = next(self._numbers)
        self._connection.executemany("INSERT INTO chosen VALUES (?, ?)", [(number, word) for word in words])
        return f"SELECT word FROM chosen WHERE number = {number}"


def prepare(connection: sqlite3.Connection) -> None:
    """Make the temporary tables of a connection that asks."""
    connection.executescript(
        """
        PRAGMA temp_store = memory;
        CREATE TEMP TABLE chosen (number INTEGER, word INTEGER, PRIMARY KEY (number, word)) WITHOUT ROWID;
        CREATE TEMP TABLE hits (place INTEGER PRIMARY KEY);
        """
    )


def _look(fields: str, among: str, test: str, arguments: Sequence[object], holding: str) -> tuple[str, list[object]]:
    """A query of words that may be meant: number, field and whether they are; one more than `MOST_WORDS` at most."""
    if len(holding) < _TRIGRAM:
        sql = f"SELECT id, field, {test} FROM words WHERE {fields} AND {among} LIMIT ?"
        return sql, [*arguments, MOST_WORDS + 1]
    # In this order nothing but the words that are looked at is ever read, however many there are.
    sql = (
        f"SELECT id, field, {fields} AND {test} FROM (SELECT rowid AS number FROM trigrams WHERE trigrams MATCH ?)"
        " CROSS JOIN words ON id = number LIMIT ?"
    )
    return sql, [*arguments, _query(holding), MOST_WORDS + 1]


def _query(text: str) -> str:
    """What FTS5 looks for: some of the text's trigrams; it is folded already."""
    text = schema.trigram_text(text)
    every = [text[at : at + _TRIGRAM] for at in range(len(text) - _TRIGRAM + 1)]
    some = every[:: -(-len(every) // _TRIGRAMS)]
    return " AND ".join('"' + trigram.replace('"', '""') + '"' for trigram in some)


def _begins(text: str) -> tuple[str, list[object]]:
    """Which words begin so."""
    return "text >= ? AND text < ?", [text, text + "\U0010ffff" * 300]


def _in_columns(tests: Mapping[str, str]) -> Condition:
    """Whether one of some columns with an index of their own fits."""
    return Condition(
        f"({' OR '.join(f'ifnull(e.{name} {test}, 0)' for name, test in tests.items())})",
        places=" UNION ALL ".join(f"SELECT place FROM events WHERE {name} {test}" for name, test in tests.items()),
    )


def _in_digits(text: str) -> Iterator[str]:
    """Text in ids and digests that are kept as bytes."""
    head, colon, digits = text.partition(":")
    is_hex = _HEX.fullmatch(text)
    if is_hex:
        for name in _IDS:
            yield f"(typeof(e.{name}) = 'blob' AND instr(lower(hex(e.{name})), ?))"
    if "sha256".endswith(head) and _HEX.fullmatch(digits) if colon else is_hex or text in "sha256":
        for name in _DIGESTS:
            yield f"(typeof(e.{name}) = 'blob' AND instr('sha256:' || lower(hex(e.{name})), ?))"


def _mapped(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> ipaddress.IPv4Network | None:
    """IPv4 inside IPv6, as client addresses are kept."""
    first = getattr(network.network_address, "ipv4_mapped", None)
    prefix = network.prefixlen - 96
    return ipaddress.IPv4Network((first, prefix)) if first is not None and prefix >= 0 else None


def _any(conditions: Sequence[Condition]) -> Condition:
    if len(conditions) == 1:
        return conditions[0]
    places = [condition.places for condition in conditions]
    return Condition(
        f"({' OR '.join(condition.sql for condition in conditions)})",
        [argument for condition in conditions for argument in condition.arguments],
        None if None in places else " UNION ALL ".join(map(str, places)),
    )
