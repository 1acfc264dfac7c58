"""``semver:`` ranges, read as npm reads them.

A tag is a version when it is a whole one, ``1.2.3`` or ``1.2.3-rc.1``, with one ``v`` before it or none; ``1.2`` is no
version (such tags usually move).  A pre-release satisfies a range only where the range itself names a pre-release of
the same ``major.minor.patch``: ``>=1.0.0`` does not take in ``2.0.0-beta``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import semver

Release = tuple[int, int, int]
_Precedence = tuple[int, tuple[tuple[int, int, str], ...]]
Key = tuple[Release, _Precedence]
_Edge = tuple[Key, int]

_FINAL: _Precedence = (1, ())
_LOWEST: _Precedence = (0, ((0, 0, ""),))
_X = r"(?:0|[1-9][0-9]{0,15}|[xX*])"
_PARTIAL = rf"[vV=]?({_X})(?:\.({_X})(?:\.({_X})(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?)?)?"
_COMPARATOR = re.compile(rf"(\^|~>?|>=|<=|>|<|==?)?{_PARTIAL}", re.ASCII)
_HYPHEN = re.compile(rf"{_PARTIAL} +- +{_PARTIAL}", re.ASCII)
_LOOSE_OPERATOR = re.compile(r"(\^|~>?|>=|<=|>|<|==?) +", re.ASCII)


@dataclass(frozen=True, slots=True)
class Version:
    """A tag read as a version: ``key`` orders versions as the specification's section 11 does."""

    key: Key

    @property
    def is_prerelease(self) -> bool:
        return self.key[1] != _FINAL

    @property
    def edge(self) -> _Edge:
        """The version as `VersionRange.edges` are sorted."""
        return (self.key, 0)


def version_of(tag: str) -> Version | None:
    """The version that a tag names, or None."""
    text = tag.removeprefix("v")
    if not text.isascii() or not text[:1].isdigit():
        return None
    try:
        parsed = semver.Version.parse(text)
    except ValueError:
        return None
    return Version(_key((parsed.major, parsed.minor, parsed.patch), parsed.prerelease))


def _key(release: Release, prerelease: str | None) -> Key:
    if not prerelease:
        return release, _FINAL
    return release, (0, tuple(_identifier(part) for part in prerelease.split(".")))


def _identifier(part: str) -> tuple[int, int, str]:
    return (0, int(part), "") if part.isdigit() else (1, 0, part)


@dataclass(frozen=True, slots=True)
class _Bound:
    """One comparison, such as ``>=1.2.0``."""

    sign: str
    key: Key


_BOTTOM: _Edge = (((0, 0, 0), _LOWEST), 0)
_TOP: _Edge = (((sys.maxsize, 0, 0), _LOWEST), 0)


@dataclass(frozen=True, slots=True)
class _Interval:
    """Bounds that must all hold, as ``low <= (key, 0) < high``; the second number of an edge makes ``>`` of ``>=``.

    ``prereleases`` are the releases of which pre-releases are taken in too.
    """

    low: _Edge
    high: _Edge
    prereleases: frozenset[Release]


def _interval(bounds: Iterable[_Bound]) -> _Interval:
    bounds = list(bounds)
    lows = [(bound.key, int(bound.sign == ">")) for bound in bounds if bound.sign in {">", ">=", "="}]
    highs = [(bound.key, int(bound.sign != "<")) for bound in bounds if bound.sign in {"<", "<=", "="}]
    named = frozenset(bound.key[0] for bound in bounds if bound.key[1] != _FINAL)
    return _Interval(max(lows, default=_BOTTOM), min(highs, default=_TOP), named)


@dataclass(frozen=True, slots=True)
class VersionRange:
    """Versions that satisfy any one of some intervals."""

    text: str
    alternatives: tuple[_Interval, ...]

    @property
    def edges(self) -> Iterator[_Edge]:
        """Where the answer for releases changes: it is one and the same between two neighbouring edges."""
        for interval in self.alternatives:
            yield interval.low
            yield interval.high

    @property
    def names_prereleases(self) -> bool:
        """Whether it takes in any pre-release at all."""
        return any(interval.prereleases for interval in self.alternatives)

    def includes(self, version: Version) -> bool:
        """Whether the version satisfies the range."""
        key = version.edge
        return any(
            interval.low <= key < interval.high
            and (not version.is_prerelease or version.key[0] in interval.prereleases)
            for interval in self.alternatives
        )


def parse_range(text: str) -> VersionRange:
    """Read a range; raises `ValueError` with what is wrong."""
    if not text.strip():
        raise ValueError('the range is empty; "semver:*" takes every release')
    intervals = tuple(_interval(_alternative(part)) for part in text.split("||"))
    if all(interval.low >= interval.high for interval in intervals):
        raise ValueError(f'no version can satisfy "{text.strip()}"')
    return VersionRange(text, intervals)


def _alternative(text: str) -> tuple[_Bound, ...]:
    text = " ".join(text.replace(",", " ").split())
    hyphen = _HYPHEN.fullmatch(text)
    if hyphen:
        return (*_comparator(">=", hyphen.groups()[:4]), *_comparator("<=", hyphen.groups()[4:]))
    if not text:
        raise ValueError('one side of "||" is empty')
    return tuple(chain.from_iterable(_word(word) for word in _LOOSE_OPERATOR.sub(r"\1", text).split()))


def _word(word: str) -> tuple[_Bound, ...]:
    found = _COMPARATOR.fullmatch(word)
    if found is None:
        raise ValueError(f'"{word}" is no version range; ranges look like >=1.2.0, ^1.2, ~1.2, 1.x or >=1 <2')
    sign, *parts = found.groups()
    return _comparator(sign or "=", tuple(parts))


def _comparator(sign: str, parts: tuple[str | None, ...]) -> tuple[_Bound, ...]:
    """One comparator with a possibly partial version, as bounds with whole versions."""
    numbers = _numbers(parts[:3])
    given = len(numbers)
    first: Release = _filled(numbers)
    if sign in {"^", "~", "~>"}:
        top = _caret_top(first, given) if sign == "^" else _bumped(first, min(given, 2))
        return (_Bound(">=", _key(first, parts[3])), *_below(top))
    if given == len(first):
        return (_Bound("=" if sign == "==" else sign, _key(first, parts[3])),)
    return _partial(sign, first, given)


def _partial(sign: str, first: Release, given: int) -> tuple[_Bound, ...]:
    """``>1.2`` means beyond all of 1.2, ``<=1.2`` up to the end of it, ``1.2`` anything in it."""
    start, top = _Bound(">=", (first, _FINAL)), _bumped(first, given)
    match sign:
        case ">=":
            return (start,)
        case ">" if top:
            return (_Bound(">=", (top, _FINAL)),)
        case "<" if top:
            return _below(first)
        case "<=":
            return _below(top) or (start,)
        case "=" | "==":
            return (start, *_below(top))
        case _:
            raise ValueError(f'"{sign}*" takes in no version at all')


def _numbers(parts: tuple[str | None, ...]) -> list[int]:
    """The leading numbers of a partial version, up to the first ``x``."""
    numbers: list[int] = []
    for part in parts:
        if part is None or part in "xX*":
            break
        numbers.append(int(part))
    return numbers


def _filled(numbers: list[int]) -> Release:
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major, minor, patch


def _bumped(release: Release, position: int) -> Release | None:
    """The first release after all that share the first ``position`` numbers; None where that is every release."""
    major, minor, _ = release
    if position == 0:
        return None
    return (major + 1, 0, 0) if position == 1 else (major, minor + 1, 0)


def _caret_top(first: Release, given: int) -> Release | None:
    """``^`` keeps the leftmost number that is not 0."""
    major, minor, patch = first
    if major or given <= 1:
        return _bumped(first, min(given, 1))
    if minor or given == 2:  # major and minor
        return _bumped(first, 2)
    return (0, 0, patch + 1)


def _below(top: Release | None) -> tuple[_Bound, ...]:
    """Below a release and all its pre-releases."""
    return (_Bound("<", (top, _LOWEST)),) if top else ()
