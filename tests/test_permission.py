from __future__ import annotations

import pytest

from immuproxy.ledger.exceptions import Exemption
from immuproxy.ledger.model import Action, Event, Outcome
from immuproxy.permission import MAX_REASON, Wish, ending, needless, read_parts
from tests.rules.files import rules_of

GOOD = {"tag": "team/app:1.4", "for": "30m", "reason": "the key leaked", "digest": ""}


def test_all_parts_together() -> None:
    wish, errors = read_parts(GOOD | {"reason": "  the key leaked "})
    assert errors == {}
    assert wish == Wish("team/app", "1.4", 1_800_000, "the key leaked")
    digest = f"sha256:{'a' * 64}"
    wish, _ = read_parts(GOOD | {"digest": digest})
    assert wish is not None
    assert wish.digest == digest


@pytest.mark.parametrize(
    ("part", "typed", "why"),
    [
        ("tag", "", "such as team/app:1.4"),
        ("tag", "team/app", "REPOSITORY:TAG"),
        ("tag", "registry.example:5000/app:1", "leave out the host"),
        ("tag", "team/app:-", "is no tag"),
        ("tag", "team/app@sha256:12", "REPOSITORY:TAG"),
        ("for", "", "duration"),
        ("for", "30", "unit"),
        ("for", "31d", "at most"),
        ("for", "0s", "at most"),
        ("reason", " ", "say in a few words why"),
        ("reason", "a\nb", "one line"),
        ("reason", "x" * (MAX_REASON + 1), "at most 500"),
        ("reason", "turned \u202e round", "one line"),
        ("digest", "sha256:12", "no digest"),
    ],
)
def test_each_mistake_is_said_of_its_part(part: str, typed: str, why: str) -> None:
    wish, errors = read_parts(GOOD | {part: typed})
    assert wish is None
    assert list(errors) == [part]
    assert why in errors[part]


def test_all_mistakes_are_said_at_once() -> None:
    assert list(read_parts({})[1]) == ["tag", "for", "reason"]


def test_an_end_keeps_the_reason_of_the_grant_where_none_is_given() -> None:
    event = Event(id="1", action=Action.EXCEPTION, outcome=Outcome.GRANTED)
    exemption = Exemption("team/app", "1.4", 1, 2, "sha256:d", "0", "mira", "leaked")
    ended = ending(event, exemption)
    assert (ended.outcome, ended.digest, ended.reason) == (Outcome.ENDED, "sha256:d", "ended by hand: leaked")


def test_where_the_tag_may_move_anyway_that_is_said() -> None:
    rules = rules_of("default: mutable\nrules: [{name: r, tags: ['1'], policy: immutable}]")
    assert needless(rules.match("app", "1"), "app", "1") == ""
    assert "does not hold app:2" in needless(rules.match("app", "2"), "app", "2")
