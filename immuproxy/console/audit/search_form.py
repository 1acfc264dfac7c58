"""The audit log, one event of it, and help with the search.  PURE."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from immuproxy.audit.search import KEYS, Search, SearchError
from immuproxy.audit.values import EventPage, Tally
from immuproxy.console.wording import sentence
from immuproxy.ledger.model import Event, Outcome

SHOWN_OUTCOMES = (
    Outcome.CREATED,
    Outcome.OVERWRITTEN,
    Outcome.UNCHANGED,
    Outcome.REFUSED,
    Outcome.FAILED,
    Outcome.UNKNOWN,
    Outcome.DELETED,
    Outcome.MISSING,
    Outcome.FOUND,
)
SHOWN_TIMES = ("1h", "24h", "7d", "30d")

SYNTAX = (
    ("repo:team/**", "a repository; * stops at a slash, ** crosses it"),
    ("tag:v1*", "a tag; * stands for anything"),
    ("outcome:refused", "how it ended; several of one key are alternatives"),
    ("actor:ci", "who"),
    ("ip:10.0.0.0/8", "client address or network"),
    ("rule:releases", "the rule that decided"),
    ("digest:sha256:ab12", "a digest, new or previous, by its beginning"),
    ("since:7d until:2026-01-31", "time, back from now or as a date (UTC)"),
    ("shadow:yes", "what a rule in shadow mode would have refused"),
    ("-actor:ci", "a minus in front leaves out"),
    ('"no such manifest"', "words anywhere in what is shown"),
)


def events_context(page: EventPage, search: Search, filters: Search) -> dict[str, Any]:
    """One page of events, newest first."""
    return {
        "query": " ".join(filter(None, (search.to_text(), filters.to_text()))),
        "events": [event.to_dict() for event in page.events],
        "complete": page.complete,
        "searched_to": page.searched_to,
        "next_cursor": page.next_cursor or None,
        "live_cursor": page.live_cursor or None,
    }


def search_problem(text: str, error: SearchError) -> dict[str, Any]:
    """Where the search goes wrong: ``before``, ``word`` and ``after`` put together are the search as typed."""
    end = error.offset + error.length
    return {
        "message": sentence(error.message),
        "before": text[: error.offset],
        "word": text[error.offset : end],
        "after": text[end:],
        "suggestion": f"{text[: error.offset]}{error.suggestion}{text[end:]}" if error.suggestion else "",
    }


_SINGLE = frozenset({"outcome", "shadow"})


def outcome_choices(search: Search) -> list[tuple[str, str, bool]]:
    """Label, search and whether it is chosen, for each outcome that people narrow by, and for what shadow rules say."""
    chosen = {term.value for term in search.values("outcome")}
    bare = Search(tuple(term for term in search.terms if term.key not in _SINGLE), search.since, search.until)
    shadow = [term.value for term in search.values("shadow")] == ["yes"]
    every = [("all", bare.to_text(), not chosen and not shadow)]
    outcomes = [
        (outcome.value, bare.with_term("outcome", outcome).to_text(), chosen == {outcome.value})
        for outcome in SHOWN_OUTCOMES
    ]
    return [*every, *outcomes, ("would be refused", bare.with_term("shadow", "yes").to_text(), shadow)]


def time_choices(search: Search) -> list[tuple[str, str, bool]]:
    """The same for how far back the search looks."""
    bare = Search(search.terms).to_text()
    since = search.since.text if search.since else ""
    until = search.until is not None
    every = [("any time", bare, not since and not until)]
    return every + [(time, f"{bare} since:{time}".strip(), since == time and not until) for time in SHOWN_TIMES]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The word under the cursor: its place in the search, its key (empty while it is typed), and its value so far."""

    start: int
    end: int
    minus: str
    key: str
    prefix: str


_BEFORE = re.compile(r'(?P<minus>-?)(?:(?P<key>[A-Za-z_]+):)?"?(?P<value>[^\s"]*)$')


def word_at(text: str, position: int) -> Wanted:
    """Find the word that somebody is typing, with the cursor at ``position``."""
    before = text[:position]
    start = max((before.rfind(space) for space in " \t\n"), default=-1) + 1
    rest = re.match(r"\S*", text[position:])
    end = position + (len(rest[0]) if rest else 0)
    found = _BEFORE.match(before[start:])
    if found is None:
        return Wanted(start, end, "", "", before[start:])
    return Wanted(start, end, found["minus"], (found["key"] or "").lower(), found["value"])


def key_suggestions(wanted: Wanted) -> list[dict[str, str]]:
    """The keys that begin as typed."""
    return [
        {"text": f"{wanted.minus}{key}:", "about": about}
        for key, about in KEYS.items()
        if key.startswith(wanted.prefix.lower())
    ]


def value_suggestions(wanted: Wanted, values: Sequence[Tally]) -> list[dict[str, str]]:
    """Known values of the key."""
    search = Search()
    return [
        {
            "text": search.with_term(wanted.key, tally.value, exclude=bool(wanted.minus)).to_text(),
            "about": f"{tally.count:,}" if tally.count else "",
        }
        for tally in values
        if tally.value
    ]


def event_context(event: Event) -> dict[str, Any]:
    """All that is known of one event."""
    return {"event": event.to_dict()}
