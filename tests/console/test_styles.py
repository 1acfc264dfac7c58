"""A class is styled in one stylesheet, so that a page which loads two of them shows what was meant."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "immuproxy" / "console" / "static"
_RULE = re.compile(r"([^{}]+)\{[^{}]*\}")
_ASIDE = re.compile(r"@media print \{(?:[^{}]*\{[^{}]*\})*\s*\}|:(?:not|is|has)\([^)]*\)")
"""What is said for paper only, and what merely narrows a selector."""

_OWN = re.compile(r"\.([a-z][\w-]*)\Z")


def styled_alone(css: str) -> set[str]:
    """The classes that a rule is about alone: `.a`, not `.a .b` or `td.a`."""
    plain = _ASIDE.sub("", re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL))
    selectors = (one.strip() for rule in _RULE.findall(re.sub(r"@media[^{]*\{", "", plain)) for one in rule.split(","))
    return {found[1] for found in map(_OWN.match, selectors) if found}


def test_each_class_is_styled_in_one_file() -> None:
    files = defaultdict(set)
    for sheet in FOLDER.glob("*.css"):
        for name in styled_alone(sheet.read_text()):
            files[name].add(sheet.name)
    assert {name: places for name, places in files.items() if len(places) > 1} == {}


@pytest.mark.parametrize(
    ("css", "names"), [(".a { x: y } .b .c { x: y }", {"a"}), ("@media (x) { .a, .d { x: y } }", {"a", "d"})]
)
def test_the_classes_of_a_sheet_are_read(css: str, names: set[str]) -> None:
    assert styled_alone(css) == names
