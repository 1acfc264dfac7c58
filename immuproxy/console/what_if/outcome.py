"""What another rules file would have said to the past: counts, and each verdict that would change.  PURE."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from immuproxy.rules.model import Decision

SHOWN = 1000
"""Differences that a page or an answer in one piece lists, the oldest; all are counted."""

SHOWN_REPOSITORIES = 5

OUTCOMES = {
    Decision.CREATE: "created",
    Decision.OVERWRITE: "overwritten",
    Decision.UNCHANGED: "unchanged",
    Decision.DELETE: "deleted",
    Decision.REFUSE: "refused",
}
"""A verdict in the words of the audit."""


def in_words(difference: Mapping[str, Any]) -> dict[str, Any]:
    """A difference with its verdicts' outcomes as the audit says them."""
    return {
        **difference,
        "was": {**difference["was"], "outcome": OUTCOMES[Decision(difference["was"]["outcome"])]},
        "now": {**difference["now"], "outcome": OUTCOMES[Decision(difference["now"]["outcome"])]},
    }


@dataclass(slots=True)
class WhatIfResult:
    """What a rehearsal has found so far, in bounded memory."""

    last: int
    differences: list[dict[str, Any]] = field(default_factory=list)
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    repositories: Counter[str] = field(default_factory=Counter)
    uncertain: int = 0
    judged: int = 0

    def add(self, difference: dict[str, Any]) -> bool:
        """Take in one difference (of `in_words`); whether it is among those that are listed."""
        self.changes[_state(difference["was"]), _state(difference["now"])] += 1
        self.repositories[difference["repository"]] += 1
        self.uncertain += bool(difference["uncertain"])
        shown = len(self.differences) < SHOWN
        if shown:
            self.differences.append(difference)
        return shown

    @property
    def changed(self) -> int:
        """How many verdicts would change."""
        return self.changes.total()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``complete`` tells whether all differences are listed."""
        return {
            "last": self.last,
            "judged": self.judged,
            "changed": self.changed,
            "uncertain": self.uncertain,
            "changes": [{"was": was, "now": now, "count": count} for (was, now), count in self.changes.most_common()],
            "repositories": [
                {"name": name, "count": count} for name, count in self.repositories.most_common(SHOWN_REPOSITORIES)
            ],
            "differences": self.differences,
            "complete": len(self.differences) == self.changed,
        }


def _state(verdict: Mapping[str, Any]) -> str:
    """An outcome, with the mark of a rule in shadow mode."""
    return f"{verdict['outcome']} (shadow)" if verdict["shadow"] else str(verdict["outcome"])


def problems_context(problems: Sequence[Mapping[str, Any]], more: int, text: str) -> dict[str, Any]:
    """What is wrong with a file; each problem has the ``code`` of its line, to be shown beside it."""
    lines = text.splitlines()
    return {
        "problems": [{**problem, "code": _line_of(lines, problem["line"])} for problem in problems],
        "more": more,
    }


LONGEST_CODE = 160


def _line_of(lines: Sequence[str], number: int) -> str:
    line = lines[number - 1].rstrip() if 0 < number <= len(lines) else ""
    return line if len(line) <= LONGEST_CODE else f"{line[:LONGEST_CODE]}..."
