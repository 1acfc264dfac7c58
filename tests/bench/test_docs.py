from __future__ import annotations

import re
from pathlib import Path

from bench.lines.catalogue import LINES

PAGE = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()


def test_the_page_describes_each_line_in_the_order_of_the_table() -> None:
    rows = re.findall(r"^\| ((?:`[\w-]+`(?:, )?)+) \|", PAGE, re.MULTILINE)
    assert re.findall(r"[\w-]+", " ".join(rows)) == list(LINES)
