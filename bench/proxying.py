"""Times a registry directly and behind nginx, HAProxy and immuproxy, side by side, and prints one Markdown table.

Usage, from the root of the repository: make bench, or
python -m bench.proxying [--scale S] [--runs N] [--only NAMES] [--json FILE]   (docs/benchmarks.md)

Whatever else the machine does falls on all four, which take turns; ratios in one run say more than figures.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Container, Iterator
from pathlib import Path

from bench import about, report
from bench.lines.catalogue import LINES
from bench.measure import Series, run
from bench.proxies.starting import CONTENDERS
from bench.scene import Scene, opened


def measured(scene: Scene, names: Container[str], runs: int, among: Container[str] = CONTENDERS) -> Iterator[Series]:
    """The rows of those lines, in the order of the table."""
    for name, line in LINES.items():
        if name in names:
            print(name, file=sys.stderr, flush=True)
            yield from run(line(scene), runs, among)


def prepare() -> None:
    """Leave with a sentence where a program is missing; end the servers in order when we are ended."""
    if sentence := about.missing():
        sys.exit(sentence)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="size of blobs, length of loads: 1 is all of it")
    parser.add_argument("--runs", type=int, default=5, help="rounds in which all take their turn")
    parser.add_argument("--only", default=",".join(LINES), help="lines, with commas between (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all values there as well")
    return parser.parse_args()


def main() -> None:
    chosen = _arguments()
    prepare()
    names = chosen.only.split(",")
    if unknown := set(names) - set(LINES):
        sys.exit(f"there is no line {' or '.join(sorted(unknown))}; there are {', '.join(LINES)}")
    known = about.about(chosen.runs, chosen.scale)
    with tempfile.TemporaryDirectory(prefix="ip-") as directory, opened(Path(directory), chosen.scale) as scene:
        series = list(measured(scene, names, chosen.runs))
    known["load_after"] = about.load()
    print(report.heading(known))
    print(report.table(series))
    if chosen.json:
        chosen.json.write_text(json.dumps(report.document(series, known), indent=1) + "\n")


if __name__ == "__main__":
    main()
