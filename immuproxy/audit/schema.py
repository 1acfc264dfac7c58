"""The tables of the index, and how an event's values stand in them.  No I/O here.

Words that repeat are numbers: a row of ``words`` is one value of one field, and ``uses`` says which events have it.  So
an event is its place (the id of its entry in the stream) with some numbers, and a search begins at the events of a
word.  Ids and digests, which do not repeat, are bytes where they are hexadecimal digits, else words.
"""

from __future__ import annotations

import re

from immuproxy.audit.record.rows import FIELDS, FLAGS, NUMBERS
from immuproxy.values.networks import parse_address

VERSION = 200 + len(FIELDS)
"""``PRAGMA user_version`` of the file; one with another is built anew.  Count the hundreds up where the tables change
otherwise than by a field of the event, which counts itself.
"""

LEAST_SQLITE = (3, 34)
"""The release of SQLite that came with trigrams; nothing newer is used."""

PACKED = ("id", "digest", "previous_digest", "request_id")
"""Fields that hardly ever repeat."""

NUMERIC = ("time", *NUMBERS)
WORDS = tuple(name for name in FIELDS if name not in {*PACKED, *NUMERIC, *FLAGS})
"""Fields whose values repeat."""

NUMBER_OF = {name: number for number, name in enumerate(FIELDS)}
"""The number by which ``words`` knows a field."""

NOT_SHOWN = frozenset({"time", "size", "rule_line", "shadow", "actor_source", "actor_confirmed", "duration_ms"})
"""Fields in which no text is looked for."""

TEXTS = tuple(name for name in FIELDS if name not in NOT_SHOWN)
"""Fields in which text is looked for, besides ``repository:tag``."""

POSTED = (*(name for name in TEXTS if name not in {"media_type", "platforms"}),)
"""Fields whose words are in ``uses``; the others have few, and nearly every event has them."""

EMPTY_TOO = frozenset({"action", "outcome", "repository", "tag", "rule", "actor", "client_address", "user_agent"})
"""Fields of which "none" can be asked for: the empty word is one of theirs.  Elsewhere it is NULL."""

ODD = "odd"
"""The word of the field ``time`` that events have whose time is not that of their place (see `is_odd`)."""

YES = "yes"
"""The word of the field ``shadow``."""

NEAR_MS = 2_000
"""An event whose time is further than that from its place's is odd: it came late, or from another clock."""

HOUR, DAY, WEEK, EVER = 3_600_000, 86_400_000, 604_800_000, 0
"""The lengths (ms) of the buckets of ``counts``; `EVER` is all the time."""

ATTEMPTS, REPOSITORIES, RULES, SHADOWED = range(4)
"""Kinds of ``counts``, by what ``word`` and ``other`` are: action and outcome; repository and whether it is named by an
exception; rule; nothing.
"""

RANKED = ("refused", "failed")
"""Outcomes of which places (repository and tag) and people (actor and rule) are counted, too."""

PLACES = {"refused": 4, "failed": 5}
PEOPLE = {"refused": 6, "failed": 7}
UNITS = {
    ATTEMPTS: (HOUR, DAY, WEEK),
    SHADOWED: (HOUR, DAY, WEEK),
    REPOSITORIES: (DAY, WEEK, EVER),
    RULES: (DAY, WEEK),
    **dict.fromkeys(PLACES.values(), (DAY, WEEK, EVER)),
    **dict.fromkeys(PEOPLE.values(), (DAY, WEEK)),
}
"""In which buckets each kind is counted; what remains of a span is counted event by event."""

TABLES = f"""
BEGIN;
CREATE TABLE words (id INTEGER PRIMARY KEY, field INTEGER, text TEXT, folded TEXT, address BLOB);
CREATE UNIQUE INDEX words_text ON words (field, text);
CREATE INDEX words_address ON words (address) WHERE address IS NOT NULL;
CREATE VIRTUAL TABLE trigrams USING fts5 (text, content='', detail=none, tokenize='trigram case_sensitive 1');
CREATE TABLE events (place INTEGER PRIMARY KEY, {", ".join(FIELDS)});
CREATE INDEX events_id ON events (id);
CREATE INDEX events_request ON events (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX events_digest ON events (digest) WHERE digest IS NOT NULL;
CREATE INDEX events_previous ON events (previous_digest) WHERE previous_digest IS NOT NULL;
CREATE TABLE uses (word INTEGER, place INTEGER, PRIMARY KEY (word, place)) WITHOUT ROWID;
CREATE TABLE counts (
  kind INTEGER, unit INTEGER, at INTEGER, word INTEGER, other INTEGER, n INTEGER,
  PRIMARY KEY (kind, unit, at, word, other)
) WITHOUT ROWID;
CREATE TABLE tags (
  repository INTEGER, tag INTEGER, kind INTEGER, newest INTEGER, time INTEGER, place INTEGER,
  PRIMARY KEY (repository, tag, kind)
) WITHOUT ROWID;
CREATE TABLE state (low INTEGER, high INTEGER, complete INTEGER);
INSERT INTO state VALUES (NULL, NULL, 0);
PRAGMA user_version = {VERSION};
COMMIT;
"""
"""``words.folded`` is the text in lower case (`str.casefold`), NULL where that is the same; ``words.address`` is the
bytes of a client address.  ``state``: all events of the stream from ``low`` to ``high`` are here, and with ``complete``
there are no older ones.  ``tags``: see `immuproxy.audit.tags`.
"""

_HEX = re.compile(r"(?:[0-9a-f]{2})+", re.ASCII)
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
_LONGEST_NUMBER = 18
_SEQUENCE_BITS = 16
MOST_SEQUENCE = (1 << _SEQUENCE_BITS) - 1


def words(field: str, *texts: str) -> str:
    """SQL for the numbers of texts of a field; none of them needs to be a word."""
    quoted = ", ".join(f"'{text}'" for text in texts)
    return f"(SELECT id FROM words WHERE field = {NUMBER_OF[field]} AND text IN ({quoted}))"


def place_of(ms: int, sequence: int) -> int:
    """The id of a stream's entry as one number: 48 bits of milliseconds and 16 of sequence."""
    return ms << _SEQUENCE_BITS | sequence


def ms_of(place: int) -> int:
    """When an event entered the audit."""
    return place >> _SEQUENCE_BITS


def packed(name: str, text: str) -> bytes | None:
    """The value of one of `PACKED` as bytes; None where it is to be a word."""
    if name in {"id", "request_id"}:
        return bytes.fromhex(text) if _HEX.fullmatch(text) else None
    found = _DIGEST.fullmatch(text)
    return bytes.fromhex(found[1]) if found else None


def unpacked(name: str, value: bytes) -> str:
    """The inverse of `packed`."""
    return value.hex() if name in {"id", "request_id"} else f"sha256:{value.hex()}"


def number(text: str) -> int | str | None:
    """A number as SQLite takes it; one beyond 64 bits stays text, which it orders behind all numbers."""
    if not text:
        return None
    return int(text) if len(text) <= _LONGEST_NUMBER else str(int(text))


def address_of(text: str) -> bytes | None:
    """The bytes of a client address, an IPv4 address inside IPv6 as IPv4; None where it is none."""
    address = parse_address(text)
    return address.packed if address else None


def folded(text: str) -> str:
    """Text as it is compared without regard to upper and lower case."""
    return text.casefold()


def trigram_text(text: str) -> str:
    """Folded text as SQLite cuts it into trigrams, which ends at a zero."""
    return text.replace("\0", "\x1f")


def is_odd(place: int, time: int | str) -> bool:
    """Whether a search by time has to look for the event elsewhere than at its place."""
    return isinstance(time, str) or abs(ms_of(place) - time) > NEAR_MS
