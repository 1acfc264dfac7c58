from __future__ import annotations

import json

from immuproxy.rules.model import Decision, Held, Image, PushFacts, Verdict
from immuproxy.rules.simulate import Recorded, Request, simulate
from tests.rules.files import image, index, rules_of

IMMUTABLE = rules_of("default: immutable")
MUTABLE = rules_of("default: mutable")


def recorded(
    number: int,
    what: Image,
    outcome: Decision,
    *,
    before: Image | None = None,
    request: Request = Request.PUSH,
    known: bool = True,
    tag: str = "1.4",
) -> Recorded:
    wish = PushFacts(repository="team/app", tag=tag, image=what, user="ci", now_ms=number)
    return Recorded(
        event=f"e{number}",
        push=wish,
        was=Verdict(outcome, "as it was", "old", 3),
        before=Held(before, 0) if before else None,
        request=request,
        content_known=known,
    )


MOVED = [
    recorded(1, image("a"), Decision.CREATE),
    recorded(2, image("b"), Decision.OVERWRITE),
    recorded(3, image("a"), Decision.OVERWRITE),
    recorded(4, image("a"), Decision.UNCHANGED),
]


def test_the_rules_of_that_time_change_nothing() -> None:
    assert list(simulate(MUTABLE, MOVED)) == []


def test_stricter_rules_refuse_and_later_pushes_meet_what_would_have_stayed() -> None:
    found = list(simulate(IMMUTABLE, MOVED))
    assert [(difference.recorded.event, difference.now.outcome) for difference in found] == [
        ("e2", Decision.REFUSE),
        ("e3", Decision.UNCHANGED),
    ]
    assert found[0].recorded.was.reason == "as it was"
    assert "already holds another digest" in found[0].now.reason


def test_looser_rules_let_through() -> None:
    refused = [recorded(1, image("a"), Decision.CREATE), recorded(2, image("b"), Decision.REFUSE)]
    (difference,) = simulate(MUTABLE, refused)
    assert (difference.recorded.event, difference.now.outcome) == ("e2", Decision.OVERWRITE)


def test_what_the_tag_held_before_the_first_record_counts() -> None:
    (difference,) = simulate(IMMUTABLE, [recorded(5, image("b"), Decision.OVERWRITE, before=image("a"))])
    assert difference.now.outcome is Decision.REFUSE


def test_tags_are_independent() -> None:
    pushes = [recorded(1, image("a"), Decision.CREATE), recorded(2, image("b"), Decision.CREATE, tag="1.5")]
    assert list(simulate(IMMUTABLE, pushes)) == []


def test_shadow_marks_are_differences() -> None:
    shadow = rules_of("default: mutable\nrules: [{name: a, policy: immutable, mode: shadow}]")
    found = list(simulate(shadow, MOVED[:2]))
    assert [(difference.recorded.event, difference.now.outcome, difference.now.shadow) for difference in found] == [
        ("e2", Decision.OVERWRITE, True)
    ]


def test_deletes_are_replayed_and_leave_a_tombstone() -> None:
    rules = rules_of("rules: [{name: a, policy: immutable, delete: allow}]")
    pushes = [
        recorded(1, image("a"), Decision.CREATE),
        recorded(2, image("a"), Decision.DELETE, request=Request.DELETE),
        recorded(3, image("b"), Decision.CREATE),
    ]
    (difference,) = simulate(rules, pushes)
    assert (difference.recorded.event, difference.now.outcome) == ("e3", Decision.REFUSE)
    (denied,) = simulate(IMMUTABLE, pushes[:2])
    assert (denied.recorded.event, denied.now.outcome) == ("e2", Decision.REFUSE)


def test_within_counts_from_the_first_push_of_the_replay() -> None:
    rules = rules_of("rules: [{name: a, policy: immutable, overwrite: [{within: 10ms}]}]")
    pushes = [recorded(number, image(name), Decision.OVERWRITE) for number, name in ((5, "b"), (15, "a"), (16, "b"))]
    found = {difference.recorded.event: difference.now.outcome for difference in simulate(rules, pushes)}
    assert found == {"e5": Decision.CREATE, "e16": Decision.REFUSE}


def test_unknown_content_makes_a_verdict_uncertain() -> None:
    growing = rules_of("default: append-only")
    pushes = [
        recorded(1, index("a", "1"), Decision.CREATE, known=False),
        recorded(2, index("b"), Decision.OVERWRITE, known=False),
    ]
    (difference,) = simulate(growing, pushes)
    assert difference.uncertain == "what the manifests list is not recorded"
    labelled = rules_of("rules: [{name: a, policy: immutable, overwrite: [{same: rev}]}]")
    (difference,) = simulate(labelled, pushes)
    assert "labels" in difference.uncertain
    (difference,) = simulate(IMMUTABLE, pushes)
    assert difference.uncertain == ""


def test_a_difference_as_json() -> None:
    difference = next(simulate(IMMUTABLE, MOVED))
    values = json.loads(json.dumps(difference.to_dict()))
    assert (values["event"], values["was"]["outcome"], values["now"]["outcome"]) == ("e2", "overwrite", "refuse")
    assert (values["now"]["rule"], values["was"]["line"], values["actor"]) == ("default", 3, "ci")
