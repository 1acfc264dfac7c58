"""The tags of a repository, chosen and put in order.  PURE.

A repository may have tens of thousands.  So what depends on a name alone (where it sorts, which rule takes it in) is
worked out once and remembered in a `Shelf`, and an order is made once for each version of the roster.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import itemgetter

from immuproxy.audit.rosters import Roster
from immuproxy.audit.search import has_wildcard, pattern_test
from immuproxy.audit.values import TagFacts
from immuproxy.rules.model import RuleSet
from immuproxy.values import cursors
from immuproxy.values.cursors import BadCursorError

COLUMNS = {"name": "Tag", "state": "State", "rule": "Rule", "set": "Set", "by": "By"}
"""What a list of tags may be ordered by, and what the column is called."""

ORDERS = tuple(order for column in COLUMNS for order in (column, f"-{column}"))
"""A minus in front: from the greatest (latest, last) down."""

USUAL_ORDER = "-set"
STATES = ("held", "moves", "deleted", "free")

_NUMBER = re.compile(r"[0-9]+", re.ASCII)
_VERSION = re.compile(r"v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?(?:\.([0-9]+))?(?:-(.+))?", re.ASCII)

Key = tuple[int | str, str, str]
Row = tuple[Key, TagFacts]


def natural(tag: str) -> str:
    """A text by which tags sort as people count: ``1.9`` before ``1.10``, ``2.0.0-rc.1`` before ``2.0.0``.

    A tag that begins like a version, with or without ``v``, sorts as one, missing parts being 0.
    """
    name = tag.lower()
    found = _VERSION.fullmatch(name)
    if found is None:
        return _NUMBER.sub(_padded, name)
    first, second, third, fourth, rest = found.groups("")
    release = f"{first:0>18}.{second:0>18}.{third:0>18}.{fourth:0>18}"
    return f"{release}-{_NUMBER.sub(_padded, rest)}" if rest else f"{release}~"


def _padded(number: re.Match[str]) -> str:
    return number[0].zfill(18)


def state_of(facts: TagFacts) -> str:
    """The word for what is known of a tag; one of `STATES`."""
    if facts.held:
        return "held"
    if facts.gone:
        return "deleted"
    return "moves" if facts.digest else "free"


@dataclass(frozen=True, slots=True)
class TagQuery:
    """Which tags, and in which order.

    ``text`` stands anywhere in the name, or is a pattern with ``*``; ``state`` is one of `STATES`, ``rule`` the name of
    the rule that decides; each may be empty.  ``order`` is one of `ORDERS`.
    """

    text: str = ""
    state: str = ""
    rule: str = ""
    order: str = USUAL_ORDER

    @property
    def needs_rules(self) -> bool:
        """Whether the rule of every tag has to be known."""
        return bool(self.rule) or self.order.endswith("rule")


MOST_RULES = 200


def fitting_rules(repository: str, rules: RuleSet) -> tuple[str, ...]:
    """The names of the rules that may decide about tags of the repository, in their order; at most `MOST_RULES`."""
    fitting = (rule.name for rule in (*rules.rules, rules.default) if rule.repositories.matches(repository))
    return tuple(islice(dict.fromkeys(fitting), MOST_RULES))


@dataclass(slots=True)
class Shelf:
    """What was worked out of the tags of one repository.

    ``rules`` are those that ``names`` (tag -> rule) speaks of; ``fitting`` names those that may decide here.
    """

    rules: RuleSet | None = None
    naturals: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    fitting: tuple[str, ...] = ()
    orders: dict[str, tuple[object, list[Row]]] = field(default_factory=dict)

    def learn(self, repository: str, facts: Iterable[TagFacts], rules: RuleSet | None) -> bool:
        """Work out what tags need to be put in order, and with ``rules`` which rule decides on each.

        Whether there was anything new.
        """
        new = [each.tag for each in facts if each.tag not in self.naturals or (rules and each.tag not in self.names)]
        for tag in new:
            self.naturals[tag] = natural(tag)
            if rules is not None:
                self.names[tag] = rules.match(repository, tag).name
        return bool(new)

    def begin(self, repository: str, rules: RuleSet) -> None:
        """From now on these are the rules in force."""
        if self.rules is not rules:
            self.rules, self.names, self.fitting = rules, {}, fitting_rules(repository, rules)

    def key(self, column: str, facts: TagFacts) -> Key:
        """Where a tag stands in the order of a column; no two are the same."""
        return (self._primary(column, facts), self.naturals[facts.tag], facts.tag)

    def _primary(self, column: str, facts: TagFacts) -> int | str:
        match column:
            case "set":
                return facts.held or facts.changed
            case "state":
                return STATES.index(state_of(facts))
            case "rule":
                return self.names[facts.tag]
            case "by":
                return facts.by
            case _:
                return ""

    def ordered(self, roster: Roster, column: str) -> list[Row]:
        """All tags by a column, ascending."""
        mark = (roster.version, self.rules if column == "rule" else None)
        known, rows = self.orders.get(column, (None, []))
        if known != mark:
            rows = [(self.key(column, facts), facts) for facts in roster.tags.values()]
            rows.sort(key=itemgetter(0))  # half the time of comparing rows, in which no other thread runs
            self.orders[column] = mark, rows
        return rows


@dataclass(frozen=True, slots=True)
class Chosen:
    """One page of the tags that were asked for.

    ``matching`` counts all of them, ``first`` is the number of the first one shown (from 1).  ``states`` counts tags by
    state, as if no state had been chosen.  ``previous`` and ``following`` are cursors, None where there is no such
    page; an empty one is the first page.
    """

    facts: tuple[TagFacts, ...]
    matching: int
    first: int
    states: Mapping[str, int]
    previous: str | None
    following: str | None


def choose(roster: Roster, shelf: Shelf, wish: TagQuery, *, limit: int, cursor: str) -> Chosen:
    """The page behind ``cursor``; ``shelf`` has learnt all of the roster's tags.  Raises `BadCursorError`."""
    column, descending = wish.order.removeprefix("-"), wish.order.startswith("-")
    passing = _passing(shelf.ordered(roster, column), wish, shelf)
    states = Counter(state_of(facts) for _, facts in passing)
    rows = [row for row in passing if state_of(row[1]) == wish.state] if wish.state else passing
    if descending:
        rows = rows[::-1]
    start = _place(rows, _read(cursor, wish.order, shelf), descending=descending) if cursor else 0
    shown = rows[start : start + limit]
    behind = start + limit
    return Chosen(
        facts=tuple(facts for _, facts in shown),
        matching=len(rows),
        first=start + 1 if shown else 0,
        states={state: states[state] for state in STATES if states[state]},
        previous=(_write(rows[start - limit - 1][0], wish.order) if start > limit else "") if start else None,
        following=_write(rows[behind - 1][0], wish.order) if behind < len(rows) else None,
    )


def _passing(rows: list[Row], wish: TagQuery, shelf: Shelf) -> list[Row]:
    """The rows that the text and the rule leave."""
    if wish.rule:
        rows = [row for row in rows if shelf.names[row[1].tag] == wish.rule]
    if wish.text:
        passes = _text_test(wish.text)
        rows = [row for row in rows if passes(row[1].tag)]
    return rows


def _text_test(text: str) -> Callable[[str], bool]:
    if has_wildcard(text):
        return pattern_test(text, path=False)
    part = text.casefold()
    return lambda tag: part in tag.casefold()


def _place(rows: Sequence[Row], key: Key, *, descending: bool) -> int:
    """How many rows stand before the place behind ``key``."""
    if not descending:
        return bisect_right(rows, key, key=lambda row: row[0])
    return bisect_left(range(len(rows)), True, key=lambda at: rows[at][0] < key)


def _write(key: Key, order: str) -> str:
    return cursors.write("tag-list", order, str(key[0]), key[2])


def _read(cursor: str, order: str, shelf: Shelf) -> Key:
    kind, primary, tag = (str(part) for part in cursors.read("tag-list", (str, str, str), cursor))
    if kind != order:
        raise BadCursorError("this cursor belongs to another order")
    number = order.removeprefix("-") in {"set", "state"}
    if number and not re.fullmatch(r"[0-9]{1,18}", primary, re.ASCII):
        raise BadCursorError("this cursor is damaged")
    return (int(primary) if number else primary, shelf.naturals.get(tag) or natural(tag), tag)
