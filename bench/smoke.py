"""Whether immuproxy is about as fast as it has been: short runs beside nginx, with generous margins.

Usage, from the root of the repository: make bench-smoke, or python -m bench.smoke   (under two minutes)

Exits with 1 and a sentence for each row that is out of its margin.  It is a net for what came to be twice as slow; the
figures themselves are those of `make bench`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Series
from bench.proxies.starting import IMMUPROXY, NGINX
from bench.proxying import measured, prepare
from bench.report import table
from bench.scene import opened


@dataclass(frozen=True, slots=True)
class Margin:
    """The least or the most that a row may be: a part of nginx's value in the same round, or ``itself``."""

    least: float = 0.0
    most: float = float("inf")
    itself: bool = False


# Each is what was reached on 2026-11-28 (in the comment; docs/benchmarks.md) with a factor of about 1.6 to spare: on
# two cores with other work the median of three short rounds was up to 1.4 times off.  Who makes a line faster sets its
# margin anew.
MARGINS: Mapping[str, Margin] = {
    "download": Margin(least=0.4),  # 0.7: both wait for the client, which wakes up for each piece
    "upload": Margin(least=0.5),  # 0.9: the registry's hashing takes most of the time
    "download-cpu": Margin(most=4.5),  # 2.2: steps of 10 ms are coarse for a small blob
    "upload-cpu": Margin(most=8.0),  # 4.4: as above
    "get-tag": Margin(least=0.35),  # 0.6
    "get-digest": Margin(least=0.4),  # 0.7
    "head": Margin(least=0.35),  # 0.6
    "push-1": Margin(least=0.12),  # 0.2
    "push-8": Margin(least=0.15),  # 0.25
    "refused": Margin(least=0.4),  # 0.65: nginx's registry takes the same push
    "repeated": Margin(least=0.2),  # 0.33: as above
    "memory-idle": Margin(most=105, itself=True),  # 65 MiB
    "memory-stalled": Margin(most=200, itself=True),  # 123 MiB
    "start": Margin(most=3.0, itself=True),  # 1.75 s
}

SCALE, RUNS = 0.1, 3
LINES = tuple(name for name in MARGINS if not name.endswith("-cpu"))


def misses(all_series: Sequence[Series]) -> Iterator[str]:
    """A sentence for each row that is out of its margin, or that was not measured."""
    found = {series.row.key: series for series in all_series}
    for key, margin in MARGINS.items():
        if sentence := _miss(found[key], margin) if key in found else f"{key} was not measured":
            yield sentence


def _miss(series: Series, margin: Margin) -> str:
    value, of = _reached(series, margin), "" if margin.itself else " of nginx's"
    if value is None:
        return f"{series.row.name}: there is no value"
    if value < margin.least:
        return f"{series.row.name}: {value:.2f}{of}, at least {margin.least:g} is expected"
    if value > margin.most:
        return f"{series.row.name}: {value:.2f}{of}, at most {margin.most:g} is expected"
    return ""


def _reached(series: Series, margin: Margin) -> float | None:
    if margin.itself:
        return series.median(IMMUPROXY)
    ratio = series.ratio(IMMUPROXY, NGINX)
    return ratio.median if ratio else None


def main() -> None:
    prepare()
    with tempfile.TemporaryDirectory(prefix="ip-") as directory, opened(Path(directory), SCALE) as scene:
        series = list(measured(scene, LINES, RUNS, among=(NGINX, IMMUPROXY)))
    print(table(series))
    sentences = list(misses(series))
    print("\n".join(sentences))
    sys.exit(1 if sentences else 0)


if __name__ == "__main__":
    main()
