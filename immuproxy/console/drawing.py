"""The geometry of what is drawn: charts, a tag's life, the glyph of a digest.  PURE: numbers in, numbers out.

The templates put the numbers into SVG attributes; there is no inline style (the content security policy forbids it).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
class Column:
    """Where one bucket stands: from ``x`` on."""

    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Level:
    """A line across with its number; ``share`` is how far down it is, of 100."""

    y: float
    value: int

    @property
    def share(self) -> float:
        """Of the height."""
        return round(100 * self.y / HEIGHT, 2)


@dataclass(frozen=True, slots=True)
class Tick:
    """A time below the drawing; ``share`` is how far to the right it is, of 100."""

    share: float
    time: int


@dataclass(frozen=True, slots=True)
class DrawnChart:
    """Bars above and below a zero line, on one scale: a bar twice as long is twice as much, on either side.

    ``drifts`` are the middles of the buckets in which drift was found: a mark there counts nothing.  ``form`` says how
    exact times have to be to be told apart: ``time``, ``weekday`` or ``day``.
    """

    bars: tuple[Bar, ...]
    columns: tuple[Column, ...]
    drifts: tuple[float, ...]
    zero: float
    levels: tuple[Level, ...]
    ticks: tuple[Tick, ...]
    form: str


LEAST = 3.0
"""Units of height that a number above 0 gets at least, so that one refusal among a thousand pushes is seen."""

_APART = 18.0
"""Units between two numbers at the side that can be read."""

_TICKS = 4

_HOURS = 3_600_000


def nice_ceiling(value: int) -> int:
    """The next round number (1, 2, 4, 5, 10, 20, ...) at or above ``value``; 0 stays 0."""
    if value <= 0:
        return 0
    power = int(10 ** (len(str(value)) - 1))
    return next(step * power for step in (1, 2, 4, 5, 10) if step * power >= value)


def chart(buckets: Sequence[Mapping[str, Any]]) -> DrawnChart:
    """Pushes per bucket: what was let through stands above the line, what was refused or failed hangs below it.

    So the two are told apart without colour.  Each bucket has the times ``since`` and ``until`` in ms, and the numbers
    ``accepted``, ``unchanged``, ``refused``, ``failed`` and ``drift``.
    """
    above = nice_ceiling(max((_sum(bucket, UPWARD) for bucket in buckets), default=0))
    below = nice_ceiling(max((_sum(bucket, DOWNWARD) for bucket in buckets), default=0))
    spare = [len(keys) * LEAST if most else 0.0 for keys, most in ((UPWARD, above), (DOWNWARD, below))]
    scale = (HEIGHT - sum(spare)) / ((above + below) or 1)
    zero = round(spare[0] + above * scale, 2) if above or below else HEIGHT
    columns = _columns(buckets)
    bars = [
        bar
        for column, bucket in zip(columns, buckets, strict=True)
        for keys, sign in ((UPWARD, -1), (DOWNWARD, 1))
        for bar in _stack([(key, sign * _height(int(bucket[key]), scale)) for key in keys], column, zero)
    ]
    drifts = [
        round(column.x + column.width / 2, 2)
        for column, bucket in zip(columns, buckets, strict=True)
        if bucket["drift"]
    ]
    sides = (Level(round(zero - above * scale, 2), above), Level(round(zero + below * scale, 2), below))
    levels = (Level(zero, 0), *(level for level in sides if abs(level.y - zero) >= _APART))
    return DrawnChart(
        tuple(bars), tuple(columns), tuple(drifts), zero, levels, tuple(_ticks(buckets, columns)), _form(buckets)
    )


def _sum(bucket: Mapping[str, Any], keys: Iterable[str]) -> int:
    return sum(int(bucket[key]) for key in keys)


def _height(count: int, scale: float) -> float:
    return max(count * scale, LEAST) if count else 0.0


def _columns(buckets: Sequence[Mapping[str, Any]]) -> list[Column]:
    """As wide as their time is long: the last one may have only begun."""
    if not buckets:
        return []
    start, end = int(buckets[0]["since"]), int(buckets[-1]["until"])
    unit = WIDTH / max(end - start, 1)
    return [
        Column(round((int(one["since"]) - start) * unit, 2), round((int(one["until"]) - int(one["since"])) * unit, 2))
        for one in buckets
    ]


def _ticks(buckets: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> Iterator[Tick]:
    """The first bucket, and some more at even distances; the end is left to who knows whether it is now."""
    stride = -(-len(buckets) // _TICKS) or 1
    for bucket, column in list(zip(buckets, columns, strict=True))[::stride]:
        yield Tick(round(100 * column.x / WIDTH, 2), int(bucket["since"]))


def _form(buckets: Sequence[Mapping[str, Any]]) -> str:
    hours = (int(buckets[-1]["until"]) - int(buckets[0]["since"])) / _HOURS if buckets else 0
    return "time" if hours <= 26 else "weekday" if hours <= 100 else "day"  # a day, four, more


def _stack(heights: Iterable[tuple[str, float]], column: Column, zero: float) -> Iterable[Bar]:
    """Rectangles one upon another from the zero line on; heights are negative upwards."""
    at, gap = zero, min(column.width * 0.18, 4)
    for key, height in heights:
        if height:
            top = round(min(at, at + height), 2)
            x, width = round(column.x + gap / 2, 2), round(column.width - gap, 2)
            yield Bar(x, top, width, round(abs(height), 2), TONES[key])
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
    """A stretch of a tag's life during which it held one digest; or ``count`` short ones, too many to tell apart."""

    x: float
    width: float
    digest: str
    since: int
    until: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class Mark:
    """Refused attempts that fall together."""

    x: float
    since: int
    until: int
    count: int


@dataclass(frozen=True, slots=True)
class Life:
    """A tag's life from its first event until now.

    With few changes the axis is bent where it must be: each stretch is long enough to be seen, and within a stretch
    time runs evenly.  With many it is not, and stretches too short to be seen are drawn as one.
    """

    bands: tuple[Band, ...]
    marks: tuple[Mark, ...]
    start: int
    end: int


SMALLEST_PART = 0.035
"""The least share of the width that a stretch between two changes takes, where there are few."""

NARROW = 4.0
"""Units below which stretches are drawn as one, and marks fall together."""


def life(spans: Sequence[Mapping[str, Any]], refused: Sequence[int], now: int) -> Life | None:
    """Spans (``digest``, ``since``, ``until`` in ms) and times of refused attempts, on one axis; None without any.

    Both are sorted by time.
    """
    times = [int(span["since"]) for span in spans] + list(refused)
    if not times:
        return None
    start, end = min(times), max([now, *times])
    changes = sorted({start, end, *(int(span[side]) for span in spans for side in ("since", "until"))})
    place = _axis(changes)
    bands = (_band(span, place) for span in spans)
    marks = (Mark(place(time), time, time, 1) for time in refused)
    return Life(tuple(_fused_bands(bands)), tuple(_fused_marks(marks)), start, end)


def _axis(changes: Sequence[int]) -> Callable[[int], float]:
    """Where a time stands, from 0 to `WIDTH`."""
    places = _places(changes)

    def place(time: int) -> float:
        if len(changes) == 1:
            return 0.0
        index = min(max(bisect_right(changes, time) - 1, 0), len(changes) - 2)
        (since, until), (left, right) = changes[index : index + 2], places[index : index + 2]
        return round(left + (right - left) * (time - since) / (until - since), 2)

    return place


def _places(changes: Sequence[int]) -> list[float]:
    """Where each of the sorted times stands."""
    length = max(changes[-1] - changes[0], 1)
    least = SMALLEST_PART if len(changes) * SMALLEST_PART < 1 else 0.0
    parts = [max((until - since) / length, least) for since, until in pairwise(changes)]
    whole = sum(parts) or 1.0
    return [0.0, *(WIDTH * part / whole for part in accumulate(parts))]


def _band(span: Mapping[str, Any], place: Callable[[int], float]) -> Band:
    since, until = int(span["since"]), int(span["until"])
    return Band(place(since), round(place(until) - place(since), 2), str(span["digest"]), since, until)


def _fused_bands(bands: Iterable[Band]) -> Iterator[Band]:
    """Neighbours too narrow to be seen become one, which is at least wide enough to be seen."""
    run: list[Band] = []
    for band in bands:
        if run and not (_is_narrow(run[-1]) and _is_narrow(band)):
            yield _fused(run)
            run = []
        run.append(band)
    if run:
        yield _fused(run)


def _is_narrow(band: Band) -> bool:
    return band.width < NARROW


def _fused(run: Sequence[Band]) -> Band:
    first, last = run[0], run[-1]
    width = round(max(last.x + last.width - first.x, NARROW), 2)
    x = min(first.x, WIDTH - width)
    return Band(x, width, first.digest if len(run) == 1 else "", first.since, last.until, len(run))


def _fused_marks(marks: Iterable[Mark]) -> Iterator[Mark]:
    run: list[Mark] = []
    for mark in marks:
        if run and mark.x - run[0].x >= NARROW:
            yield Mark(run[0].x, run[0].since, run[-1].until, len(run))
            run = []
        run.append(mark)
    if run:
        yield Mark(run[0].x, run[0].since, run[-1].until, len(run))


def share(value: int, largest: int) -> float:
    """How long a bar beside a name is, of 100."""
    return round(100 * value / largest, 1) if largest > 0 else 0.0
