from __future__ import annotations

import io
import json
from typing import Any

import pytest

from immuproxy.ledger.model import Action, Event, Outcome
from immuproxy.rehearsal import child

MUTABLE, IMMUTABLE = b"default: mutable\n", b"default: immutable\nreferrers: false\n"
A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def event(number: int, outcome: Outcome, digest: str, previous: str = "", **fields: Any) -> Event:
    usual: dict[str, Any] = {"repository": "team/app", "tag": "1.0", "rule": "r", "reason": "so", "time": number}
    return Event(
        id=f"e{number}",
        action=Action.PUSH,
        outcome=outcome,
        digest=digest,
        previous_digest=previous,
        **(usual | fields),
    )


MOVED = [event(1, Outcome.CREATED, A), event(2, Outcome.OVERWRITTEN, B, A)]


def told(rules: bytes, *lines: Any) -> list[dict[str, Any]]:
    """What the process answers to a file and to lines, given as JSON values."""
    head = json.dumps({"source": "new.yml", "bytes": len(rules)}).encode() + b"\n"
    written = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)
    answers: list[dict[str, Any]] = []
    child.work(io.BytesIO(head + rules + written), answers.append)
    return answers


def newest_first(*events: Event) -> list[Any]:
    return [["event", each.to_dict()] for each in reversed(events)]


def test_it_judges_the_oldest_first_and_tells_what_changes() -> None:
    rules, difference, done = told(IMMUTABLE, *newest_first(*MOVED))
    assert rules == {"rules": 0, "first": False}
    assert difference["difference"]["event"] == "e2"
    assert (difference["difference"]["was"]["outcome"], difference["difference"]["now"]["outcome"]) == (
        "overwrite",
        "refuse",
    )
    assert done == {"done": True, "judged": 2, "changed": 1}


def test_the_same_rules_change_nothing_and_no_past_is_fine() -> None:
    assert told(MUTABLE, *newest_first(*MOVED))[1:] == [{"done": True, "judged": 2, "changed": 0}]
    assert told(MUTABLE)[1:] == [{"done": True, "judged": 0, "changed": 0}]


def test_when_a_tag_was_first_pushed_is_asked_for_and_counts() -> None:
    within = b"default: mutable\nrules: [{name: short, policy: immutable, overwrite: [{within: 10s}]}]\n"
    late = event(30_000, Outcome.OVERWRITTEN, B, A)
    assert told(within)[0]["first"]
    assert told(within, *newest_first(late), ["first", "team/app", "1.0", 25_000])[-1]["changed"] == 0
    assert told(within, *newest_first(late), ["first", "team/app", "1.0", 1_000])[-1]["changed"] == 1


def test_how_far_it_is_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "TELL_EVERY", 2)
    many = [event(number, Outcome.CREATED, A, tag=f"t{number}") for number in range(5)]
    answers = told(MUTABLE, *newest_first(*many))
    assert [answer["judged"] for answer in answers[1:]] == [2, 4, 5]


def test_a_wrong_file_is_told_with_its_lines_and_nothing_else() -> None:
    (answer,) = told(b"default: imutable\nrules: [{name: a, polcy: frozen}]\n", *newest_first(*MOVED))
    assert answer["more"] == 0
    assert (answer["problems"][0]["line"], answer["problems"][0]["column"]) == (1, 10)
    assert "polcy" in answer["problems"][1]["message"] + answer["problems"][2]["message"]


def test_the_problems_of_a_hostile_file_are_told_in_bounds() -> None:
    keys = ", ".join(f"k{number}: 1" for number in range(3000))
    long = "y" * 1_000
    (answer,) = told(f"rules: [{{{keys}, {long}: 1}}]\n".encode())
    assert (len(answer["problems"]), answer["more"]) == (child.SHOWN_PROBLEMS, 2903)
    (answer,) = told(f"{long}: 1\n".encode())
    assert answer["problems"][0]["message"].endswith("yyy...")
