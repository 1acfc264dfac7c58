from __future__ import annotations

from dataclasses import replace

import pytest

from immuproxy.allow.exceptions import Allows, Exemption
from immuproxy.allow.permission import MAX_REASON, PermissionRequest, ending, needless, read_parts, unknown
from immuproxy.ledger.model import Action, Claim, Committed, Event, Outcome, State, TagRecord, Tombstone
from tests.rules.files import rules_of

GOOD = {"tag": "team/app:1.4", "for": "30m", "reason": "the key leaked", "digest": ""}


def test_all_parts_together() -> None:
    wish, errors = read_parts(GOOD | {"reason": "  the key leaked "})
    assert errors == {}
    assert wish == PermissionRequest("team/app", "1.4", 1_800_000, "the key leaked")
    digest = f"sha256:{'a' * 64}"
    wish, _ = read_parts(GOOD | {"digest": digest})
    assert wish is not None
    assert (wish.digest, wish.allows) == (digest, Allows.OVERWRITE)
    wish, _ = read_parts(GOOD | {"allows": "delete"})
    assert wish is not None
    assert wish.allows is Allows.DELETE


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
        ("allows", "push", "overwrite or delete"),
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
    assert "does not hold app:2" in needless(rules.match("app", "2"), "app", "2", Allows.DELETE)


def test_where_the_tag_may_be_deleted_anyway_that_is_said() -> None:
    rules = rules_of("rules: [{name: r, tags: ['1'], policy: immutable, delete: allow}]")
    assert needless(rules.match("app", "1"), "app", "1") == ""
    assert needless(rules.match("app", "1"), "app", "1", Allows.DELETE) == (
        "rule r (line 1) lets app:1 be deleted without an exception"
    )
    assert needless(rules.match("app", "2"), "app", "2", Allows.DELETE) == ""


def test_a_tag_that_nobody_knows_is_asked_about() -> None:
    protecting, moving = rules_of("default: immutable").default, rules_of("default: mutable").default
    nobody, held = TagRecord("app", "1"), Committed("sha256:d", 1, 1, 1)
    assert "nobody has pushed or imported app:1 yet; is the name right?" in unknown(protecting, nobody)
    assert unknown(moving, nobody) == ""
    assert unknown(protecting, replace(nobody, committed=held)) == ""
    assert unknown(protecting, replace(nobody, tombstone=Tombstone(1, "sha256:d"))) == ""
    assert unknown(protecting, replace(nobody, claim=Claim(State.ARMED, "sha256:d", "t", 1))) == ""
