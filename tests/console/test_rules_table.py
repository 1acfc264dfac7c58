from __future__ import annotations

from collections import Counter

import pytest

from immuproxy.console.rules.table import Count, rules_context, shown_lines
from tests.console.events import in_force


@pytest.mark.parametrize(
    "line",
    [
        "redis: {url: redis://user:hunter2@redis:6379/0}",
        "  url: rediss://:hunter2@redis:6379/0",
        "  password: hunter2",
        '  password: "hunter2"',
        "upstream: {url: http://registry, password: hunter2, ca: x}",
    ],
)
def test_passwords_of_the_file_are_not_shown(line: str) -> None:
    assert "hunter2" not in shown_lines(line)[0]


def test_all_else_of_the_file_is_shown_as_it_is() -> None:
    text = in_force().text
    assert "\n".join(shown_lines(text)) + "\n" == text
    assert shown_lines("redis: {url: redis://u:p@redis:6379/0}") == ["redis: {url: redis://(not shown)@redis:6379/0}"]


def test_rules_come_in_order_with_the_default_last() -> None:
    held = Count("d", 7, Counter({"releases": 3}), Counter({"releases": 2}))
    context = rules_context(in_force(), {"releases": 12}, held)
    assert [rule["holds"] for rule in context["rules"]][1:3] == [
        {"tags": 0, "repositories": 0},
        {"tags": 3, "repositories": 2},
    ]
    assert context["counted"] == 7
    assert [rule["name"] for rule in context["rules"]] == ["referrers", "moving", "releases", "default"]
    assert [rule["verdicts"] for rule in context["rules"]] == [0, 0, 12, 0]
    assert context["rules"][2]["overwrite"] == ["user release-bot, within 15m of the first push"]
    assert context["lines"][context["rules"][2]["line"] - 1].strip() == "- name: releases"
