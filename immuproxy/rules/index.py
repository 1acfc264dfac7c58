"""Many rules -> the first that matches, in a time that hardly grows with their number.

Each axis (repositories, tags) answers with a whole number whose bit *n* says that rule *n* takes the name in.  The
first rule that matches both is the lowest bit of the two numbers' AND.  A number is found once per name and then
remembered.

Exact patterns are a dictionary; all others of an axis are one RE2 set, a single automaton.  A set can fail in two
silent ways, both of which would leave tags unprotected, so both are looked for: it may not compile within its memory
(then it is halved), and a match that runs out of memory answers "nothing" (then its sentinel, which matches
everything, is missing, and the patterns are tried one by one).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import re2

from immuproxy.rules.patterns import PatternKind, PatternList, full_match, options
from immuproxy.rules.versions import Version, VersionRange, version_of

REMEMBERED = 4096
"""Names per axis whose answer is kept: at 10,000 rules some 1.3 KiB each."""

_SET_MEMORY = 64 * 1024 * 1024
_SENTINEL = b"(?s).*"


@dataclass(slots=True)
class _Bits:
    """The rules that a pattern includes the name into, and those that it excludes it from."""

    included: int = 0
    excluded: int = 0

    def add(self, rule: int, *, excludes: bool) -> None:
        if excludes:
            self.excluded |= 1 << rule
        else:
            self.included |= 1 << rule


class _RegexSet:
    """Expressions matched together."""

    def __init__(self, regexes: Sequence[str]) -> None:
        self._regexes = regexes
        self._set = re2.Set.FullMatchSet(options(_SET_MEMORY))
        for regex in regexes:
            self._set.Add(regex.encode("latin-1"))
        self._sentinel = self._set.Add(_SENTINEL)
        self._set.Compile()

    def matching(self, name: str) -> Iterable[int]:
        """The positions of the expressions that match."""
        found: list[int] = self._set.Match(name.encode("latin-1")) or []
        if self._sentinel in found:
            found.remove(self._sentinel)
            return found
        return [number for number, regex in enumerate(self._regexes) if full_match(regex, name)]


def _regex_sets(regexes: Sequence[str]) -> list[tuple[int, _RegexSet]]:
    """Sets of consecutive expressions, each with the position of its first, as few as memory allows."""
    sets, waiting = [], [(0, regexes)] if regexes else []
    while waiting:
        first, part = waiting.pop()
        try:
            sets.append((first, _RegexSet(part)))
        except re2.error:
            half = len(part) // 2
            if not half:
                raise
            waiting += [(first, part[:half]), (first + half, part[half:])]
    return sets


class _RangeIndex:
    """Version ranges.  Releases between the same two edges get the same answer, which is found once."""

    def __init__(self, ranges: Mapping[VersionRange, _Bits]) -> None:
        self._ranges = ranges
        self._edges = sorted({edge for versions in ranges for edge in versions.edges})
        self._with_prereleases = [versions for versions in ranges if versions.names_prereleases]
        self._known: dict[int, _Bits] = {}

    def find(self, version: Version) -> _Bits:
        if version.is_prerelease:
            return self._union(self._with_prereleases, version)
        place = bisect_right(self._edges, version.edge)
        if place not in self._known:
            self._known[place] = self._union(self._ranges, version)
        return self._known[place]

    def _union(self, ranges: Iterable[VersionRange], version: Version) -> _Bits:
        union = _Bits()
        for versions in ranges:
            if versions.includes(version):
                union.included |= self._ranges[versions].included
                union.excluded |= self._ranges[versions].excluded
        return union


class _AxisIndex:
    def __init__(self, lists: Iterable[PatternList]) -> None:
        self._unrestricted = 0
        self._exact: defaultdict[str, _Bits] = defaultdict(_Bits)
        by_range: defaultdict[VersionRange, _Bits] = defaultdict(_Bits)
        by_regex: defaultdict[str, _Bits] = defaultdict(_Bits)
        for rule, patterns in enumerate(lists):
            if not patterns.includes:
                self._unrestricted |= 1 << rule
            for pattern in patterns.patterns:
                if pattern.versions is not None:
                    bits = by_range[pattern.versions]
                else:
                    bits = self._exact[pattern.body] if pattern.kind is PatternKind.EXACT else by_regex[pattern.regex]
                bits.add(rule, excludes=pattern.excludes)
        self._ranges = _RangeIndex(by_range) if by_range else None
        self._regex_bits = list(by_regex.values())
        self._sets = _regex_sets(list(by_regex))
        self.rules_for = lru_cache(maxsize=REMEMBERED)(self._rules_for)

    def _rules_for(self, name: str) -> int:
        included, excluded = self._unrestricted, 0
        for bits in self._found(name):
            included |= bits.included
            excluded |= bits.excluded
        return included & ~excluded

    def _found(self, name: str) -> Iterable[_Bits]:
        exact = self._exact.get(name)
        if exact:
            yield exact
        for first, regexes in self._sets:
            for number in regexes.matching(name):
                yield self._regex_bits[first + number]
        version = version_of(name) if self._ranges else None
        if self._ranges and version:
            yield self._ranges.find(version)


class RuleIndex:
    """Built once per file from the (repositories, tags) of its rules, in order.  Safe to use from several threads."""

    def __init__(self, rules: Sequence[tuple[PatternList, PatternList]]) -> None:
        self._repositories = _AxisIndex(repositories for repositories, _ in rules)
        self._tags = _AxisIndex(tags for _, tags in rules)

    def first(self, repository: str, tag: str) -> int | None:
        """The position of the first rule that takes in both, or None."""
        both = self._repositories.rules_for(repository) & self._tags.rules_for(tag)
        return (both & -both).bit_length() - 1 if both else None
