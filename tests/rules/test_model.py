from __future__ import annotations

import pytest

from immuproxy.rules.model import Mode, Policy, Rule, RuleSet
from tests.rules.files import image, index, rules_of

FILE = """\
default: mutable
rules:
  - name: try-out
    tags: ["rc-*"]
    policy: frozen
    mode: shadow
  - name: releases
    tags: ["v*", "rc-*"]
    policy: immutable
  - name: rest
    repositories: ["team/**"]
    policy: append-only
"""


@pytest.mark.parametrize(
    ("repository", "tag", "rule", "protected"),
    [
        ("a", "rc-1", "try-out", False),
        ("a", "v1", "releases", True),
        ("team/a", "x", "rest", True),
        ("a", "x", "default", False),
        ("a", f"sha256-{'0' * 64}.sig", "referrers", True),
    ],
)
def test_the_first_rule_that_matches_decides(repository: str, tag: str, rule: str, protected: bool) -> None:
    rules = rules_of(FILE)
    assert rules.match(repository, tag).name == rule
    assert rules.protects(repository, tag) is protected


def test_rules_in_sentences_name_their_line() -> None:
    assert str(Rule(name="releases", policy=Policy.FROZEN, line=7)) == "rule releases (line 7)"
    assert str(Rule(name="referrers", policy=Policy.FROZEN)) == "the built-in rule referrers"
    assert str(Rule(name="default", policy=Policy.FROZEN, line=1)) == "the default (line 1)"
    assert str(Rule(name="default", policy=Policy.FROZEN)) == "the default"


def test_a_rule_says_what_a_verdict_needs() -> None:
    plain = Rule(name="a", policy=Policy.IMMUTABLE)
    assert not plain.needs_labels
    assert not plain.needs_entries
    assert Rule(name="a", policy=Policy.APPEND_ONLY).needs_entries
    same = rules_of("rules:\n  - {name: a, policy: immutable, overwrite: [{same: key}]}\n").rules[1]
    assert same.needs_labels


def test_shadow_and_mutable_rules_do_not_protect() -> None:
    assert not Rule(name="a", policy=Policy.MUTABLE).protects
    assert not Rule(name="a", policy=Policy.FROZEN, mode=Mode.SHADOW).protects
    assert Rule(name="a", policy=Policy.FROZEN).protects


def test_values_are_frozen_hashable_and_comparable() -> None:
    rules = rules_of(FILE)
    assert rules == rules_of(FILE)
    assert hash(image("a", revision="1")) == hash(image("a", revision="2"))
    assert index("a").is_index
    with pytest.raises(AttributeError):
        rules.source = "other"  # type: ignore[misc]
    assert RuleSet((), rules.default).match("a", "b") is rules.default


def test_a_repository_may_hold_protected_tags_where_any_rule_of_the_file_or_the_default_protects() -> None:
    mixed = rules_of("""
        default: mutable
        rules:
          - {name: team, repositories: ["team/**", "!team/sandbox/**"], tags: ["v*"], policy: immutable}
          - {name: tried, repositories: ["tried/**"], policy: immutable, mode: shadow}
        """)
    names = ("team/app", "team/sandbox/app", "tried/app", "other")
    assert [mixed.may_protect(name) for name in names] == [True, False, False, False]
    assert rules_of("default: immutable").may_protect("other")
