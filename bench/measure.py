"""What was measured: a row of the table, the values of each round, their medians and ratios.  Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what programs call it, what people read, and how many ``digits`` after the point."""

    key: str
    name: str
    digits: int = 2


@dataclass(frozen=True, slots=True)
class Line:
    """One piece of work, done by each of ``contenders`` in turn.

    ``measure`` does it for the contender of that name and returns a value for each of ``rows``; None where there is
    none, as of the processor time of a proxy at the registry alone.  ``once``: more runs would say the same.
    """

    rows: tuple[Row, ...]
    contenders: tuple[str, ...]
    measure: Callable[[str], tuple[float | None, ...]]
    once: bool = False


@dataclass(frozen=True, slots=True)
class Spread:
    """The median with the least and the greatest value."""

    median: float
    low: float
    high: float


@dataclass(slots=True)
class Series:
    """The values of one row: for each round, what each contender reached."""

    row: Row
    rounds: list[Mapping[str, float]] = field(default_factory=list)

    def values(self, contender: str) -> list[float]:
        return [each[contender] for each in self.rounds if contender in each]

    def median(self, contender: str) -> float | None:
        """None where the contender was not measured."""
        values = self.values(contender)
        return statistics.median(values) if values else None

    def ratio(self, contender: str, to: str) -> Spread | None:
        """How the two stand to each other in each round, so that what slows a whole round falls out."""
        ratios = [each[contender] / each[to] for each in self.rounds if contender in each and each.get(to)]
        return Spread(statistics.median(ratios), min(ratios), max(ratios)) if ratios else None


def run(line: Line, runs: int, among: Container[str]) -> list[Series]:
    """Measure the contenders that are ``among`` these in turn, ``runs`` times."""
    series = [Series(row) for row in line.rows]
    contenders = [name for name in line.contenders if name in among]
    for _ in range(1 if line.once else runs):
        found = {name: line.measure(name) for name in contenders}
        for number, each in enumerate(series):
            each.rounds.append({name: value for name, values in found.items() if (value := values[number]) is not None})
    return series
