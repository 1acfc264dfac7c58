"""docs/rules.md tells of every policy."""

from __future__ import annotations

import re
from pathlib import Path

from immuproxy.rules.decide import CHANGES
from immuproxy.rules.model import Policy

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()


def test_each_policy_says_what_it_lets_follow() -> None:
    assert set(CHANGES) == set(Policy)


def test_the_page_has_a_row_for_each_policy_and_names_them_where_they_are_written() -> None:
    assert re.findall(r"^\| `([a-z-]+)` \| (?:accepted|refused)", PAGE, re.MULTILINE) == list(Policy)
    for key in ("default", "policy"):
        (values,) = re.findall(rf"^\| `{key}` \| ([^|]*) \|", PAGE, re.MULTILINE)
        assert re.findall(r"`([a-z-]+)`", values) == list(Policy), key
