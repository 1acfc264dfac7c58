from __future__ import annotations

import pytest

from tests.rules.files import rules_of


def warned(*rules: str) -> list[str]:
    """The names of the rules that are said never to decide."""
    text = "rules:\n" + "".join(f"  - {{name: r{n}, policy: frozen{rule}}}\n" for n, rule in enumerate(rules))
    found = rules_of(text).warnings
    assert all("never decides" in warning.message for warning in found)
    return [f"r{warning.line - 2}" for warning in found]


@pytest.mark.parametrize(
    "rules",
    [
        ("", ", tags: x"),
        (", tags: x", ", tags: x"),
        (", tags: '*'", ", repositories: a, tags: y"),
        (", repositories: '**'", ", repositories: a"),
        (", tags: 're:.*'", ", tags: y"),
        (", tags: [x, y]", ", repositories: a, tags: y"),
        (", repositories: [a, b], tags: [x, y]", ", repositories: [b, a], tags: [y, x]"),
        (", repositories: a, tags: ['v*', '!v1']", ", repositories: a, tags: ['!v1', 'v*']"),
        (", repositories: a", ", repositories: [a, '!b']"),
    ],
)
def test_a_rule_behind_one_that_takes_in_all_of_it_is_reported(rules: tuple[str, str]) -> None:
    assert warned(*rules) == ["r1"]


def test_several_rules_together_can_take_in_all() -> None:
    assert warned(", tags: x", ", repositories: a, tags: y", ", repositories: a, tags: [x, y]") == ["r2"]


@pytest.mark.parametrize(
    "rules",
    [
        (", tags: x", ""),
        (", tags: '!x'", ", tags: x"),
        (", repositories: a, tags: x", ", repositories: b, tags: x"),
        (", repositories: a, tags: x", ", repositories: a, tags: y"),
        (", repositories: '*'", ", repositories: a/b"),
        (", tags: [x, y]", ", tags: [x, z]"),
        (", repositories: ['a', '!b']", ", repositories: a"),
    ],
)
def test_a_rule_that_may_decide_is_not_reported(rules: tuple[str, str]) -> None:
    assert warned(*rules) == []


def test_the_warning_names_the_earlier_rule_and_its_line() -> None:
    (warning,) = rules_of(
        "rules:\n  - {name: all, policy: frozen}\n  - {name: x, policy: mutable, tags: v1}\n"
    ).warnings
    assert (warning.line, warning.message) == (
        3,
        "rule x never decides: rule all (line 2) takes in all that it matches",
    )


def test_rules_of_very_many_pairs_are_left_alone() -> None:
    many = ", ".join(f"a{n}" for n in range(60))
    assert warned("", f", repositories: [{many}], tags: [{many}]") == []
