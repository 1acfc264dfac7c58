"""Durations, as people write them: ``15m``, ``1h30m``, ``7d``."""

from __future__ import annotations

import re

_UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_DURATION = re.compile("".join(rf"(?:(?P<{unit}>[0-9]{{1,9}}){unit}(?![a-z]))?" for unit in _UNITS), re.ASCII)
_NEARLY = re.compile(r"([0-9]{1,9})\s*(ms|[smhdw])?[a-z]*", re.ASCII | re.IGNORECASE)
LONGEST_MS = 3_660 * _UNITS["d"]
"""Ten years: longer durations are taken for a slip."""


def parse_duration(text: str) -> int:
    """``15m``, ``30s``, ``1h30m``, ``7d``, ``500ms`` in milliseconds; raises `ValueError` with what to write instead.

    Units are ``w d h m s ms``, whole numbers, larger units first, each at most once.
    """
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        raise ValueError(f"{text!r} is no duration{_suggest_duration(text)}")
    total = sum(int(count) * _UNITS[unit] for unit, count in found.groupdict(default="0").items())
    if total > LONGEST_MS:
        raise ValueError(f"{text!r} is longer than ten years")
    return total


def _suggest_duration(text: str) -> str:
    nearly = _NEARLY.fullmatch(text.strip())
    if nearly is None:
        return "; write it as 30s, 15m, 1h30m or 7d"
    count, unit = nearly.groups()
    if unit is None:
        return f"; add a unit, as in {count}s or {count}m"
    return f"; did you mean {count}{unit.lower()}?"


def format_duration(milliseconds: int) -> str:
    """As people write it, ``30d`` and not ``4w2d``; `parse_duration` reads it back to the same value.  0 is ``0s``."""
    rest, parts = milliseconds, []
    for unit, size in _UNITS.items():
        if unit == "w":
            continue
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def roughly(milliseconds: int) -> str:
    """The two largest units, for sentences: ``3d4h``, ``12m5s``."""
    largest = next((size for size in _UNITS.values() if size <= milliseconds), 1)
    following = max((size for size in _UNITS.values() if size < largest), default=1)
    return format_duration(milliseconds - milliseconds % max(following, _UNITS["s"]))
