"""The geometry of what is drawn: charts, a tag's life, the glyph of a digest.  PURE: numbers in, numbers out.

The templates put the numbers into SVG attributes; there is no inline style (the content security policy forbids it).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

WIDTH = 1000.0
"""Units across; the drawings are stretched to the width of the page."""

HEIGHT = 200.0

UPWARD = ("accepted", "unchanged")
DOWNWARD = ("refused", "failed")
TONES = {"accepted": "good", "unchanged": "calm", "refused": "bad", "failed": "odd"}


@dataclass(frozen=True, slots=True)
class Bar:
    """One rectangle, in units of the drawing."""

    x: float
    y: float
    width: float
    height: float
    tone: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars above and below a zero line; the labels are numbers, largest above, zero, largest below."""

    bars: tuple[Bar, ...]
    zero: float
    above: int
    below: int


def nice_ceiling(value: int) -> int:
    """The next round number (1, 2, 4, 5, 10, 20, ...) at or above ``value``; 0 stays 0."""
    if value <= 0:
        return 0
    power = int(10 ** (len(str(value)) - 1))
    return next(step * power for step in (1, 2, 4, 5, 10) if step * power >= value)


def chart(buckets: Sequence[Mapping[str, Any]]) -> Chart:
    """Pushes per bucket: what was let through stands above the line, what was refused or failed hangs below it.

    So the two are told apart without colour.  Each bucket has the numbers ``accepted``, ``unchanged``, ``refused`` and
    ``failed``.
    """
    above = nice_ceiling(max((_sum(bucket, UPWARD) for bucket in buckets), default=0))
    below = nice_ceiling(max((_sum(bucket, DOWNWARD) for bucket in buckets), default=0))
    total = (above + below) or 1
    # A side that has anything gets at least a fifth of the height, so that one refusal among a thousand pushes is seen.
    share = min(max(above / total, 0.2 if above else 0.0), 0.8 if below else 1.0)
    zero = HEIGHT * share
    step = WIDTH / max(len(buckets), 1)
    scales = (-zero / above if above else 0.0, (HEIGHT - zero) / below if below else 0.0)
    bars = [
        bar
        for index, bucket in enumerate(buckets)
        for keys, scale in zip((UPWARD, DOWNWARD), scales, strict=True)
        for bar in _stack([(key, int(bucket[key]) * scale) for key in keys], index * step, step, zero)
    ]
    return Chart(tuple(bars), zero, above, below)


def _sum(bucket: Mapping[str, Any], keys: Iterable[str]) -> int:
    return sum(int(bucket[key]) for key in keys)


def _stack(heights: Iterable[tuple[str, float]], x: float, step: float, zero: float) -> Iterable[Bar]:
    """Rectangles one upon another from the zero line on; heights are negative upwards."""
    at, gap = zero, min(step * 0.18, 4)
    for key, height in heights:
        if height:
            top = round(min(at, at + height), 2)
            yield Bar(round(x + gap / 2, 2), top, round(step - gap, 2), round(abs(height), 2), TONES[key])
            at += height


@dataclass(frozen=True, slots=True)
class Glyph:
    """A small symmetrical picture, the same for the same digest: five rows of five cells, and one of eight colours."""

    cells: tuple[tuple[int, int], ...]
    colour: int


_HEX = frozenset("0123456789abcdef")


def glyph(digest: str) -> Glyph:
    """A picture by which two digests are seen to be the same or not; ``digest`` is ``algorithm:hex``."""
    code = digest.partition(":")[2] or "0"
    bits = int(code[:12], 16) if set(code) <= _HEX else sum(map(ord, code))
    cells = [
        cell
        for row in range(5)
        for column in range(3)
        if bits >> (row * 3 + column) & 1
        for cell in {(column, row), (4 - column, row)}
    ]
    return Glyph(tuple(sorted(cells)), (bits >> 16) % 8)


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of a tag's life during which it held one digest."""

    x: float
    width: float
    digest: str
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Life:
    """A tag's life from its first event until now.

    The axis is bent where it must be: each stretch is long enough to be seen, and within a stretch time runs evenly.
    """

    bands: tuple[Band, ...]
    marks: tuple[float, ...]
    start: int
    end: int


SMALLEST_PART = 0.035
"""The least share of the width that a stretch between two changes takes."""


def life(spans: Sequence[Mapping[str, Any]], refused: Sequence[int], now: int) -> Life | None:
    """Spans (``digest``, ``since``, ``until`` in ms) and times of refused attempts, on one axis; None without any."""
    times = [int(span["since"]) for span in spans] + list(refused)
    if not times:
        return None
    start, end = min(times), max([now, *times])
    changes = sorted({start, end, *(int(span[side]) for span in spans for side in ("since", "until"))})
    places = _places(changes)

    def place(time: int) -> float:
        index = min(max(bisect_right(changes, time) - 1, 0), max(len(changes) - 2, 0))
        if len(changes) == 1:
            return 0.0
        (since, until), (left, right) = changes[index : index + 2], places[index : index + 2]
        return round(left + (right - left) * (time - since) / (until - since), 2)

    bands = tuple(
        Band(
            x=place(span["since"]),
            width=round(max(place(span["until"]) - place(span["since"]), SMALLEST_PART * WIDTH / 4), 2),
            digest=str(span["digest"]),
            since=int(span["since"]),
            until=int(span["until"]),
        )
        for span in spans
    )
    return Life(bands, tuple(place(time) for time in refused), start, end)


def _places(changes: Sequence[int]) -> list[float]:
    """Where each of the sorted times stands, from 0 to `WIDTH`."""
    length = max(changes[-1] - changes[0], 1)
    least = min(SMALLEST_PART, 1 / max(len(changes), 1))
    parts = [max((until - since) / length, least) for since, until in pairwise(changes)]
    whole = sum(parts) or 1.0
    return [0.0, *(WIDTH * part / whole for part in accumulate(parts))]


def share(value: int, largest: int) -> float:
    """How long a bar beside a name is, of 100."""
    return round(100 * value / largest, 1) if largest > 0 else 0.0
