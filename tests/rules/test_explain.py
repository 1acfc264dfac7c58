from __future__ import annotations

import json

import pytest

from immuproxy.rules.explain import Explanation, Foreseen, explain
from tests.rules.files import rules_of

FILE = r"""
default: immutable
rules:
  - name: moving
    tags: [latest]
    policy: mutable
  - name: releases
    repositories: ["team/**", "!team/sandbox/**"]
    tags: ["semver:>=1.0.0"]
    policy: immutable
    overwrite:
      - {users: ['b?t'], within: 15m}
      - {users: [root]}
      - {networks: [10.1.0.0/16]}
    delete: allow
  - name: lists
    repositories: [lists]
    policy: append-only
  - name: mended-lists
    repositories: [mended]
    policy: append-only
    overwrite: [{users: [root]}]
  - name: archive
    repositories: ["archive/**"]
    policy: frozen
  - name: trial
    repositories: [trial]
    policy: frozen
    mode: shadow
"""


def explained(reference: str, **more: str) -> Explanation:
    repository, _, tag = reference.partition(":")
    return explain(rules_of(FILE), repository, tag, **more)


def answer(explanation: Explanation, request: str) -> Foreseen:
    (found,) = (answer for answer in explanation.answers if answer.request == request)
    return found


def other(reference: str, **more: str) -> tuple[str, str]:
    found = answer(explained(reference, **more), "push of another digest")
    return found.outcome, found.text


def test_every_rule_before_the_deciding_one_says_why_it_did_not_match() -> None:
    explanation = explained("team/app:1.4.0")
    assert [(tried.rule, tried.line, tried.matched) for tried in explanation.tried] == [
        ("referrers", 0, False),
        ("moving", 4, False),
        ("releases", 7, True),
    ]
    assert explanation.tried[1].why == 'the tag matches none of "latest"'
    assert explanation.tried[2].why == "matches repositories team/**, !team/sandbox/** and tags semver:>=1.0.0"


def test_a_rule_can_fail_on_repository_and_tag() -> None:
    why = explained("team/sandbox/x:beta").tried[2].why
    assert why == 'the repository is excluded by "!team/sandbox/**" and the tag matches none of "semver:>=1.0.0"'


def test_the_default_comes_last() -> None:
    explanation = explained("other/app:x")
    assert explanation.rule.name == "default"
    assert explanation.tried[-1].why == "no rule matches"
    assert explanation.tried[-1].line == 2


@pytest.mark.parametrize(
    ("reference", "first", "same", "delete"),
    [
        ("other/app:x", "accepted", "accepted", "refused"),
        ("x:latest", "accepted", "accepted", "accepted"),
        ("archive/x:1", "refused", "accepted", "refused"),
        ("trial:1", "accepted", "accepted", "accepted"),
        ("team/app:1.0.0", "accepted", "accepted", "accepted"),
    ],
)
def test_what_requests_would_get(reference: str, first: str, same: str, delete: str) -> None:
    explanation = explained(reference)
    requests = ("first push", "push of the digest it holds", "delete")
    assert [answer(explanation, request).outcome for request in requests] == [first, same, delete]


@pytest.mark.parametrize(
    ("reference", "outcome", "words"),
    [
        ("other/app:x", "refused", "allows no overwrite"),
        ("x:latest", "accepted", "lets the tag move"),
        ("archive/x:1", "refused", "frozen"),
        ("trial:1", "accepted", "only records what it would have refused"),
        ("lists:1", "depends", "keeps every entry"),
    ],
)
def test_what_another_digest_would_get(reference: str, outcome: str, words: str) -> None:
    got, text = other(reference)
    assert got == outcome
    assert words in text


def test_user_and_address_narrow_the_conditions_down() -> None:
    assert other("team/app:1.4.0")[0] == "depends"
    assert "the user is b?t and the first push was no more than 15m ago" in other("team/app:1.4.0")[1]
    assert other("team/app:1.4.0", user="bot")[0] == "depends"
    assert other("team/app:1.4.0", user="root")[0] == "accepted"
    assert other("team/app:1.4.0", user="eve", address="10.1.2.3")[0] == "accepted"
    outcome, text = other("team/app:1.4.0", user="eve", address="192.0.2.1")
    assert outcome == "refused"
    assert "can hold for eve" in text


def test_after_a_delete_is_told_only_where_deletes_are_allowed() -> None:
    assert answer(explained("team/app:1.0.0"), "push after a delete").outcome == "refused"
    assert all(found.request != "push after a delete" for found in explained("other:x").answers)


def test_the_same_as_text_and_as_json() -> None:
    explanation = explained("team/app:1.4.0", user="bot")
    text = "\n".join(explanation.lines())
    assert "team/app:1.4.0 is decided by rule releases (line 7) of rules.yml: immutable" in text
    assert "=> releases (line 7)" in text
    values = json.loads(json.dumps(explanation.to_dict()))
    assert (values["rule"], values["line"], values["policy"], values["user"]) == ("releases", 7, "immutable", "bot")
    assert len(values["tried"]) == 3


def test_long_lists_of_rules_are_cut_in_the_text() -> None:
    many = "rules:\n" + "".join(f"  - {{name: r{n}, policy: frozen, tags: t{n}}}\n" for n in range(100))
    text = "\n".join(explain(rules_of(many), "a", "x").lines())
    assert "(82 rules before do not match)" in text
    assert "r99 (line 101)" in text


def test_a_condition_is_told_also_where_the_policy_itself_allows_something() -> None:
    holds = other("mended:v1", user="root")
    assert holds == ("accepted", "rule mended-lists (line 19) allows the overwrite: user root")
    may = other("mended:v1")
    entries = "the new index (or image) keeps every entry of the old one"
    assert may[1].endswith(f"accepted only if {entries}, or if the user is root")
    assert other("mended:v1", user="eve")[1].endswith(f"accepted only if {entries}")
