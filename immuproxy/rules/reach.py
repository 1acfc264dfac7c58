"""Rules that can never decide, because earlier ones take in all that they match.

Only what is certain is reported: a pattern of the later rule counts as taken when an earlier rule without excludes has
the same pattern, or one that matches everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from immuproxy.rules.model import Rule
from immuproxy.rules.patterns import PatternList
from immuproxy.rules.problems import Findings

_EVERYTHING = ""
_MATCH_ALL = {"**", "re:.*", "re:.+"}
_MOST_PAIRS = 1_000


@dataclass(frozen=True, slots=True)
class _Place:
    line: int
    column: int = 1


def warn_unreachable(rules: Sequence[Rule], findings: Findings) -> None:
    """Warn of every rule that cannot decide anything."""
    taken: dict[tuple[str, str], Rule] = {}
    whole: dict[tuple[frozenset[str], frozenset[str]], Rule] = {}
    for rule in rules:
        exactly = (frozenset(rule.repositories.texts), frozenset(rule.tags.texts))
        earlier = whole.setdefault(exactly, rule)
        if earlier is rule:
            earlier = _cover(rule, taken) or rule
        if earlier is not rule:
            findings.warn(_Place(rule.line), f"rule {rule.name} never decides: {earlier} takes in all that it matches")
        for pair in _pairs(rule) if not (rule.repositories.excludes or rule.tags.excludes) else ():
            taken.setdefault(pair, rule)


def _cover(rule: Rule, taken: dict[tuple[str, str], Rule]) -> Rule | None:
    """The last of the earlier rules that together take in every pair of patterns; None where they do not."""
    covering = [_cover_of(pair, taken) for pair in _pairs(rule)]
    found = [earlier for earlier in covering if earlier is not None]
    return found[-1] if found and len(found) == len(covering) else None


def _cover_of(pair: tuple[str, str], taken: dict[tuple[str, str], Rule]) -> Rule | None:
    repository, tag = pair
    wider = product((repository, _EVERYTHING), (tag, _EVERYTHING))
    return next((taken[candidate] for candidate in wider if candidate in taken), None)


def _pairs(rule: Rule) -> Iterator[tuple[str, str]]:
    """Pairs of (repository, tag) patterns that make up the rule; none for a rule that would have very many."""
    repositories, tags = _included(rule.repositories, frozenset()), _included(rule.tags, frozenset({"*"}))
    return product(repositories, tags) if len(repositories) * len(tags) <= _MOST_PAIRS else iter(())


def _included(patterns: PatternList, also_all: frozenset[str]) -> list[str]:
    bodies = [pattern.body for pattern in patterns.includes]
    if not bodies or any(body in _MATCH_ALL | also_all for body in bodies):
        return [_EVERYTHING]
    return list(dict.fromkeys(bodies))
