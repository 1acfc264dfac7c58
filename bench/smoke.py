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


# Each is what was reached on 2026-11-28 (in the comment) with a factor of about 1.6 to spare.  The medians of short
# runs on two cores with much other work (load 4 to 13) differed so much, because a proxy that computes more waits more
# for the scheduler.  Processor time differs less, so it is what notices most; it is held against itself: nginx's is two
# or three of the kernel's steps of 10 ms.  Who makes a line faster sets its margin anew.
MARGINS: Mapping[str, Margin] = {
    "download": Margin(least=0.5),  # 0.87 to 1.07
    "download-cpu": Margin(most=0.8, itself=True),  # 0.25 to 0.45 s a GiB
    "upload": Margin(least=0.5),  # 0.85 to 1.20: the registry's hashing takes most of the time
    "upload-cpu": Margin(most=0.9, itself=True),  # 0.19 to 0.40 s a GiB
    "get-tag": Margin(least=1.5),  # 3.06 to 4.22
    "get-tag-cpu": Margin(most=0.5, itself=True),  # 0.20 to 0.27 ms
    "get-digest": Margin(least=0.39),  # 0.63 to 0.81
    "head": Margin(least=1.3),  # 1.76 to 3.38
    "push-1": Margin(least=0.06),  # 0.10 to 0.17
    "push-8": Margin(least=0.08),  # 0.13 to 0.17
    "push-8-cpu": Margin(most=8.1, itself=True),  # 4.0 to 5.1 ms
    "refused": Margin(least=0.25),  # 0.42 to 0.57, of a push that the registry takes
    "refused-cpu": Margin(most=3.6, itself=True),  # 1.8 to 2.3 ms
    "repeated": Margin(least=0.14),  # 0.22 to 0.39
    "repeated-cpu": Margin(most=5.1, itself=True),  # 2.1 to 3.2 ms
    "memory-idle": Margin(most=136, itself=True),  # 85 to 95 MiB
    "memory-stalled": Margin(most=237, itself=True),  # 148 MiB
    "start": Margin(most=7.0, itself=True),  # 0.8 to 4.4 s, once
}

BESIDE_NGINX = ("download", "upload", "get-tag", "get-digest", "head", "push-1", "push-8", "refused", "repeated")
ALONE = ("memory-idle", "memory-stalled", "start")
SCALE, ROUNDS = 0.1, 3


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
        series = [
            *measured(scene, BESIDE_NGINX, ROUNDS, among=(NGINX, IMMUPROXY)),
            *measured(scene, ALONE, 1, among=(IMMUPROXY,)),
        ]
    print(table(series))
    sentences = list(misses(series))
    print("\n".join(sentences))
    sys.exit(1 if sentences else 0)


if __name__ == "__main__":
    main()
