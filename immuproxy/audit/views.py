"""What pages ask besides searches: counts over time, most frequent values, known values, repositories, tags.

All work on a connection that asks.  Times are milliseconds; a span runs from ``since`` to before ``until``.  An event
counts at its place, when it entered the audit: as a rule that is its own time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from immuproxy.audit import schema
from immuproxy.audit.conditions import COLUMN_OF
from immuproxy.audit.search import has_wildcard, pattern_test
from immuproxy.audit.tags import CONFIRMED, SET
from immuproxy.audit.values import Chart, RepositorySummary, Series, TagFacts, Tally
from immuproxy.ledger.model import Outcome

MOST_BUCKETS = 400
_DELETES = "delete-"
_EVENTS_OF = {
    schema.ATTEMPTS: "SELECT action AS word, outcome AS other, count(*) AS n FROM events e WHERE {} GROUP BY 1, 2",
    schema.REPOSITORIES: "SELECT repository AS word, 0 AS other, count(*) AS n FROM events e WHERE {} GROUP BY 1",
    schema.RULES: "SELECT rule AS word, 0 AS other, count(*) AS n FROM events e WHERE {} GROUP BY 1",
    schema.SHADOWED: "SELECT 0 AS word, 0 AS other, count(*) AS n FROM events e WHERE shadow AND {}",
}
_RANKED_EVENTS = (
    "SELECT {} AS word, {} AS other, count(*) AS n FROM uses u CROSS JOIN events e ON e.place = u.place"
    " WHERE u.word = {} AND {} GROUP BY 1, 2"
)
_TOP = """
WITH sums AS MATERIALIZED (
  SELECT {0} AS one, {1} AS two, sum(n) AS n FROM ({counts}) GROUP BY 1, 2
  HAVING one NOT IN ({nameless}) AND two NOT IN ({nameless})
)
SELECT one, two, n FROM sums WHERE n >= ifnull((SELECT n FROM sums ORDER BY n DESC LIMIT 1 OFFSET ?), 0)
"""
"""All that have as many as the last that is listed: among those names decide."""

_RECENT_TAGS = (
    "SELECT tag, max(place) AS last_place FROM (SELECT tag, place FROM events ORDER BY place DESC LIMIT 300) GROUP BY 1"
)
_USES = "(SELECT count(*) FROM uses WHERE word = id)"

Pair = tuple[int, int]
"""``word`` and ``other`` of ``counts``."""


@dataclass(frozen=True, slots=True)
class _Span:
    """Places from ``first`` to before ``last``; whole buckets of ``unit`` ms, or event by event where that is 0."""

    unit: int
    first: int
    last: int


def _spans(units: Sequence[int], since: int, until: int) -> Iterator[_Span]:
    """What makes up a span: the largest whole buckets in the middle, smaller ones at both ends."""
    if since >= until:
        return
    unit = max((each for each in units if -(-since // each) < until // each), default=0)
    if not unit:
        yield _Span(0, since, until)
        return
    first, last = -(-since // unit), until // unit
    smaller = [each for each in units if each < unit]
    yield from _spans(smaller, since, first * unit)
    yield _Span(unit, first, last)
    yield from _spans(smaller, last * unit, until)


def _counts_sql(connection: sqlite3.Connection, kind: int, since: int, until: int) -> str:
    """Rows of word, other and n, which together are what a span has of a kind of ``counts``."""
    units = [unit for unit in schema.UNITS[kind] if unit]
    return " UNION ALL ".join(
        f"SELECT word, other, n FROM counts WHERE kind = {kind} AND unit = {span.unit}"
        f" AND at >= {span.first} AND at < {span.last}"
        if span.unit
        else f"SELECT * FROM ({_events_sql(connection, kind, span)})"
        for span in _spans(units, since, until)
    )


def _counted(connection: sqlite3.Connection, kind: int, since: int, until: int) -> dict[Pair, int]:
    """How many events of a kind of ``counts`` a span has."""
    if since >= until:
        return {}
    rows = connection.execute(
        f"SELECT word, other, sum(n) FROM ({_counts_sql(connection, kind, since, until)}) GROUP BY 1, 2"
    )
    return {(word, other): n for word, other, n in rows}


def _events_sql(connection: sqlite3.Connection, kind: int, span: _Span) -> str:
    places = f">= {schema.place_of(span.first, 0)} AND {{}}.place < {schema.place_of(span.last, 0)}"
    if kind in _EVENTS_OF:
        return _EVENTS_OF[kind].format(f"e.place {places.format('e')}")
    by_place = kind in schema.PLACES.values()
    outcome = next(name for kinds in (schema.PLACES, schema.PEOPLE) for name, each in kinds.items() if each == kind)
    word = _word(connection, "outcome", outcome) or 0
    columns = ("e.repository", "e.tag") if by_place else ("e.actor", "e.rule")
    return _RANKED_EVENTS.format(*columns, word, f"u.place {places.format('u')}")


def chart(connection: sqlite3.Connection, field: str, since: int, until: int, buckets: int) -> Chart:
    """Counts by value of ``field`` in equal parts of a span: outcome, action, or attempt (such as ``push refused``).

    Raises `ValueError` for other fields, an empty span, or more than `MOST_BUCKETS`.
    """
    if not (0 <= since < until and 1 <= buckets <= MOST_BUCKETS):
        raise ValueError(f"a chart runs forward and has 1 to {MOST_BUCKETS} buckets")
    if field not in _NAMES:
        raise ValueError(f"{field!r} is not counted; choose one of {', '.join(_NAMES)}")
    edges = [since + (until - since) * i // buckets for i in range(buckets + 1)]
    texts: dict[int, str] = {}
    rows: dict[str, list[int]] = {}
    for bucket in range(buckets):
        for (action, outcome), n in _counted(connection, schema.ATTEMPTS, edges[bucket], edges[bucket + 1]).items():
            value = _NAMES[field](_text(connection, action, texts), _text(connection, outcome, texts))
            rows.setdefault(value, [0] * buckets)[bucket] += n
    return Chart(field, tuple(edges), tuple(Series(value, tuple(rows[value])) for value in sorted(rows)))


def _attempt(action: str, outcome: str) -> str:
    """What was tried and how it ended, such as ``push refused``; all deletes are ``delete``."""
    return f"{'delete' if action.startswith(_DELETES) else action} {outcome}"


_NAMES: Mapping[str, Callable[[str, str], str]] = {
    "attempt": _attempt,
    "outcome": lambda _, outcome: outcome,
    "action": lambda action, _: action,
}


def shadowed(connection: sqlite3.Connection, since: int, until: int) -> int:
    """How many events a rule in shadow mode would have refused."""
    return sum(_counted(connection, schema.SHADOWED, since, until).values())


def count(connection: sqlite3.Connection, since: int, until: int) -> int:
    """How many events entered the audit in a span."""
    return sum(_counted(connection, schema.ATTEMPTS, since, until).values())


def reaches(connection: sqlite3.Connection, place: int) -> bool:
    """Whether the index has followed the stream to its event at ``place``, or to its having none, where that is 0."""
    high, complete = connection.execute("SELECT ifnull(high, 0), complete FROM state").fetchone()
    if not place:
        return bool(complete) and not high
    return connection.execute("SELECT 1 FROM events WHERE place = ?", (place,)).fetchone() is not None


def total(connection: sqlite3.Connection) -> int:
    """How many events are here."""
    found = connection.execute(
        "SELECT sum(n) FROM counts WHERE kind = ? AND unit = ?", (schema.ATTEMPTS, schema.WEEK)
    ).fetchone()
    return int(found[0] or 0)


def top(
    connection: sqlite3.Connection,
    field: str,
    *,
    since: int,
    until: int,
    outcome: str | None = None,
    limit: int = 10,
) -> list[Tally]:
    """The values with most events, most first: repo or rule; with an ``outcome`` of `schema.RANKED` repo, tag
    (``repository:tag``), actor or rule.  Raises `ValueError` for others.
    """
    kinds = {"repo": schema.REPOSITORIES, "rule": schema.RULES}
    if outcome is not None:
        place, who = schema.PLACES.get(outcome), schema.PEOPLE.get(outcome)
        kinds = {"repo": place, "tag": place, "actor": who, "rule": who} if place and who else {}
    if field not in kinds:
        raise ValueError(f"{field!r} is not ranked for {outcome or 'all outcomes'}")
    if since >= until:
        return []
    key = "other" if outcome is not None and field == "rule" else "word"
    parts = ("word", "other") if field == "tag" else (key, "0")
    nameless = ", ".join(f"ifnull({schema.words(name, '')}, -1)" for name in ("repository", "tag", "actor", "rule"))
    counts = _counts_sql(connection, kinds[field], since, until)
    rows = connection.execute(_TOP.format(*parts, nameless=nameless, counts=counts), (limit - 1,))
    texts: dict[int, str] = {}
    named = [(-n, ":".join(_text(connection, word, texts) for word in words if word)) for *words, n in rows]
    return [Tally(value, -n) for n, value in sorted(named)[:limit]]


def known_values(connection: sqlite3.Connection, key: str, part: str = "", limit: int = 20) -> list[Tally]:
    """Values of a key that contain ``part``: beginnings first, then the last active; for completion.

    Tags are recent ones, and come without counts.  Raises `ValueError` for other keys.
    """
    if key not in COLUMN_OF:
        raise ValueError(f"{key!r} has no known values; choose one of {', '.join(COLUMN_OF)}")
    tables, last, count = "words", "(SELECT max(place) FROM uses WHERE word = id)", _USES
    if key == "tag":
        tables, last, count = f"({_RECENT_TAGS}) JOIN words ON id = tag", "last_place", "0"
    part = schema.folded(part)
    rows = connection.execute(
        f"SELECT text, {count}, last >> 16 FROM (SELECT id, text, {last} AS last FROM {tables}"
        " WHERE field = ? AND text <> '' AND instr(coalesce(folded, text), ?)"
        " ORDER BY instr(coalesce(folded, text), ?) = 1 DESC, last DESC, text DESC LIMIT ?)",
        (schema.NUMBER_OF[COLUMN_OF[key]], part, part, limit),
    )
    return [Tally(*row) for row in rows]


_REFUSALS = f"""ifnull((SELECT sum(n) FROM counts
  WHERE kind = {schema.PLACES["refused"]} AND unit = {schema.EVER} AND at = 0 AND word = w.id), 0)"""
_LAST = "(SELECT max(place) FROM uses WHERE word = w.id) >> 16"
_KNOWN = f"""
SELECT w.id, w.text AS name, sum(c.n) AS events, {{}} AS weight FROM counts c JOIN words w ON w.id = c.word
WHERE c.kind = {schema.REPOSITORIES} AND c.unit = {schema.EVER} AND c.at = 0 AND w.text <> ''{{}}
GROUP BY c.word HAVING min(c.other) = 0
"""
_LISTED = f"""
WITH known AS MATERIALIZED ({_KNOWN})
SELECT name, (SELECT count(DISTINCT tag) FROM tags WHERE repository = w.id), events, {_REFUSALS}, {_LAST},
  (SELECT count(*) FROM known)
FROM (SELECT * FROM known WHERE ? IS NULL OR (-weight, name) > (?, ?) ORDER BY -weight, name LIMIT ?) w
"""
"""The whole of what is said of a repository is looked up for those that are listed, not for all that are known."""


def repositories(
    connection: sqlite3.Connection, pattern: str, order: str, limit: int, behind: tuple[int, str] | None
) -> tuple[list[RepositorySummary], int]:
    """Those that contain ``pattern``, or match it where it has wildcards, and how many these are in all.

    ``order`` is one of `ORDERS`; ``behind``: the value that the order begins with of the last one before, negative, and
    its name.  A repository that exceptions alone name may be nobody's, and is not listed.
    """
    if pattern:
        connection.create_function("fits", 1, _fitting(pattern), deterministic=True)
    listed = _LISTED.format(ORDERS[order], " AND fits(w.text)" if pattern else "")
    rows = connection.execute(listed, [behind and 1, *(behind or (0, "")), limit]).fetchall()
    if behind and not rows:
        return [], repositories(connection, pattern, order, 1, None)[1]
    return [RepositorySummary(*row[:-1]) for row in rows], rows[0][-1] if rows else 0


ORDERS = {"activity": _LAST, "name": "0", "events": "sum(c.n)", "refusals": _REFUSALS}
"""Orders of repositories, and the numbers that they begin with, descending; then come names, ascending."""


def weight(order: str, summary: RepositorySummary) -> int:
    """What an order begins with, as a cursor has it."""
    return {"activity": summary.last, "events": summary.events, "refusals": summary.refusals}.get(order, 0)


def _fitting(pattern: str) -> Callable[[str], bool]:
    if has_wildcard(pattern):
        return pattern_test(pattern, path=True)
    part = schema.folded(pattern)
    return lambda name: part in schema.folded(name)


_DELETED = schema.words("outcome", Outcome.DELETED)
_FACTS = f"""
SELECT w.text, t.last >> 16, e.time, e.digest, e.outcome IN {_DELETED},
  (SELECT text FROM words WHERE id = e.actor),
  CASE typeof(e.digest) WHEN 'integer' THEN (SELECT text FROM words WHERE id = e.digest) END
FROM (
  SELECT tag, max(newest) AS last, max(place) FILTER (WHERE kind = {SET}) AS setting,
    max(place) FILTER (WHERE kind = {CONFIRMED}) AS confirming
  FROM tags WHERE repository = :repository{{}} GROUP BY tag HAVING last >= :since ORDER BY last DESC LIMIT :most
) t
JOIN words w ON w.id = t.tag
LEFT JOIN events s ON s.place = t.setting
LEFT JOIN events c ON c.place = t.confirming AND (
  s.place IS NULL
  OR (c.time, c.place) > (s.time, s.place) AND (c.digest IS NOT s.digest OR s.outcome IN {_DELETED})
)
LEFT JOIN events e ON e.place = ifnull(c.place, s.place)
ORDER BY t.last DESC
"""
"""The event that set a tag is the newest one that tells so; what a push confirmed only where that is another digest."""


def tags(
    connection: sqlite3.Connection, repository: str, *, most: int, tag: str | None = None, since: int = 0
) -> list[TagFacts]:
    """What the events of a repository say of its tags, last active first; of one tag, where it is given.

    ``since``: only of tags that had an event at or after that time.  ``held`` is the register's to say, and 0 here.
    """
    asked: dict[str, object] = {"repository": _word(connection, "repository", repository), "most": most}
    asked["since"], one = schema.place_of(since, 0), ""
    if tag is not None:
        asked["tag"], one = _word(connection, "tag", tag), " AND tag = :tag"
    return [
        TagFacts(
            tag=text,
            last=last,
            changed=time or 0,
            digest="" if gone else word or (schema.unpacked("digest", digest) if digest else ""),
            by=actor or "",
            gone=bool(gone),
        )
        for text, last, time, digest, gone, actor, word in connection.execute(_FACTS.format(one), asked)
    ]


def mark(connection: sqlite3.Connection) -> object:
    """What is another one where other tags than those with newer events may have changed.

    Then events were pruned, or older ones came in.
    """
    return connection.execute("SELECT low, complete FROM state").fetchone()


def _word(connection: sqlite3.Connection, name: str, text: str) -> int | None:
    found = connection.execute(
        "SELECT id FROM words WHERE field = ? AND text = ?", (schema.NUMBER_OF[name], text)
    ).fetchone()
    return int(found[0]) if found else None


def _text(connection: sqlite3.Connection, word: int, known: dict[int, str]) -> str:
    if word not in known:
        found = connection.execute("SELECT text FROM words WHERE id = ?", (word,)).fetchone()
        known[word] = found[0] if found else ""
    return known[word]
