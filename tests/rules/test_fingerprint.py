"""Whether two files say the same rules."""

from __future__ import annotations

import pytest

from immuproxy.rules.document import load_rules
from immuproxy.rules.fingerprint import fingerprint

FILE = """
default: immutable
rules:
  - name: moving
    tags: [latest, "dev-*"]
    policy: mutable
  - name: releases
    repositories: ["team/**"]
    policy: immutable
    overwrite: [{users: [anna, bob], within: 15m}]
"""


def told(text: str) -> str:
    return fingerprint(load_rules(text, "immuproxy.yml"))


@pytest.mark.parametrize(
    "other",
    [
        f"# a comment\n\n{FILE}",
        FILE.replace("default: immutable\n", ""),
        FILE.replace('[latest, "dev-*"]', '["dev-*", latest]'),
        FILE.replace("[anna, bob]", "[bob, anna]").replace("15m", "900s"),
        f"{FILE}\nedge: {{listen: '127.0.0.1:1'}}\nreferrers: true\n",
    ],
)
def test_the_same_rules_written_otherwise_are_the_same(other: str) -> None:
    assert told(other) == told(FILE)


@pytest.mark.parametrize(
    "other",
    [
        FILE.replace("default: immutable", "default: frozen"),
        f"{FILE}\nreferrers: false\n",
        FILE.replace("dev-*", "dev-**"),
        FILE.replace("bob", "eve"),
        FILE.replace("15m", "16m"),
        FILE.replace("policy: mutable", "policy: mutable\n    mode: shadow"),
        FILE.replace("name: moving", "name: renamed"),
        FILE.replace('["team/**"]', '["team/**", "!team/x"]'),
        "rules: []",
    ],
)
def test_other_rules_are_others(other: str) -> None:
    assert told(other) != told(FILE)


def test_the_order_of_rules_counts() -> None:
    rules = ["{name: a, tags: [x], policy: mutable}", "{name: b, tags: [x, y], policy: frozen}"]
    assert told(f"rules: [{rules[0]}, {rules[1]}]") != told(f"rules: [{rules[1]}, {rules[0]}]")
