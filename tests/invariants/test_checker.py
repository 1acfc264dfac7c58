"""The checker itself: right histories pass, and each kind of wrong one is found and named."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tests.invariants.audit_checker import audit_violations, beginnings, moving_violations, unexplained_adoptions
from tests.invariants.checker import MISSING, OK, REFUSED, UNKNOWN, Kind, Operation, Recorded, violations

PUSH = Operation("push 1", Kind.PUSH, "t", 1, 2, OK, "d1")
READ = Operation("read 1", Kind.READ, "t", 3, 4, OK, "d1")
CREATED = Recorded("e1", "t", "push", "created", "d1", "push 1")


RIGHT = {
    "nothing": [],
    "a push and a read": [PUSH, READ],
    "404 before": [replace(READ, began=0, ended=1, answer=MISSING, digest=""), PUSH, READ],
    "404 while the push is under way": [replace(READ, began=1.5, ended=9, answer=MISSING, digest=""), PUSH],
    "a read that overtakes the push's answer": [replace(PUSH, ended=9), READ],
    "the loser is refused": [PUSH, replace(PUSH, name="2", digest="d2", answer=REFUSED, held="d1")],
    "a push without an answer that was stored": [replace(PUSH, ended=9, answer=UNKNOWN), READ],
    "a push without an answer that was not": [PUSH, replace(PUSH, name="2", digest="d2", answer=UNKNOWN)],
    "a write that bypasses the proxy, and comes too late": [
        PUSH,
        replace(PUSH, name="2", kind=Kind.BYPASS, digest="d2", began=3, ended=4),
        replace(READ, began=5, ended=6),
    ],
    "a write that bypasses the proxy, and comes first": [
        replace(PUSH, kind=Kind.BYPASS, digest="d2"),
        replace(PUSH, name="2", began=3, ended=4, answer=REFUSED, held="d2"),
        replace(READ, began=5, ended=6, digest="d2"),
    ],
    "tags do not know each other": [PUSH, replace(PUSH, tag="u", digest="d2")],
}

WRONG = {
    "I1: read 2 ": [PUSH, READ, replace(READ, name="read 2", began=5, ended=6, digest="d2")],
    "I2": [PUSH, replace(READ, answer=MISSING, digest="")],
    "I2: read 9 ": [
        replace(PUSH, answer=UNKNOWN, ended=9),
        READ,
        replace(READ, name="read 9", began=4.5, ended=5, answer=MISSING, digest=""),
    ],
    "I3": [PUSH, replace(PUSH, name="2", digest="d2", began=2, ended=3)],
    "I3: 2 was answered with d3": [PUSH, replace(PUSH, name="2", digest="d2", answer=REFUSED, held="d3", ended=3)],
    "I4": [PUSH, replace(PUSH, name="2", ended=3, answer=REFUSED, held="d1")],
    "nobody": [READ],
    "nobody had": [replace(PUSH, began=8, ended=9), READ],
}


@pytest.mark.parametrize("what", RIGHT)
def test_right_histories_pass(what: str) -> None:
    assert violations(RIGHT[what]) == []


@pytest.mark.parametrize("what", WRONG)
def test_wrong_histories_are_found(what: str) -> None:
    found = violations(WRONG[what])
    assert found
    assert what in found[0]


@pytest.mark.parametrize("what", WRONG)
def test_the_order_in_which_a_history_is_told_does_not_matter(what: str) -> None:
    assert sorted(violations(WRONG[what])) == sorted(violations(WRONG[what][::-1]))


def test_i10_each_answered_push_has_its_event() -> None:
    assert audit_violations([PUSH, READ], [CREATED]) == []
    assert "I10: push 1 to t was answered ok" in audit_violations([PUSH], [])[0]
    assert "I10: push 1 to t was answered ok" in audit_violations([PUSH], [replace(CREATED, outcome="refused")])[0]


def test_i10_no_event_is_written_twice() -> None:
    assert "e1" in audit_violations([PUSH], [CREATED, CREATED])[0]
    again = replace(CREATED, event_id="e2", outcome="unchanged")
    assert any("push 1" in problem for problem in audit_violations([PUSH], [CREATED, again]))


def test_i10_a_push_that_was_taken_for_dead_may_say_so_first() -> None:
    failed = replace(CREATED, event_id="e0", outcome="failed")
    assert audit_violations([PUSH], [failed, CREATED]) == []


def test_i10_what_was_unknown_may_be_told_once_it_is_known_and_never_the_other_way_round() -> None:
    unknown = replace(CREATED, event_id="e0", outcome="unknown")
    lost = replace(PUSH, answer=UNKNOWN)
    for push in (PUSH, lost):
        assert audit_violations([push], [unknown, CREATED]) == []
        assert "after it had been told as created" in audit_violations([push], [CREATED, unknown])[0]
    assert audit_violations([lost], [unknown]) == []
    assert audit_violations([PUSH], [unknown]), "its client was told"


def test_h114_a_moving_push_is_told_as_stored_or_failed_only_where_it_was() -> None:
    lost, place = replace(PUSH, answer=UNKNOWN), {(PUSH.name, PUSH.tag)}
    late = replace(CREATED, late=True)
    failed, unknown = (replace(CREATED, outcome=outcome) for outcome in ("failed", "unknown"))
    assert list(moving_violations([lost], [CREATED], place, place)) == []
    assert list(moving_violations([lost], [CREATED], place, [])) == [], "its answer was lost"
    assert list(moving_violations([lost], [failed], place, [])) == []
    assert list(moving_violations([lost], [failed, CREATED], place, place)) == []
    assert list(moving_violations([lost], [unknown], place, place)) == []
    assert list(moving_violations([lost], [unknown], [], [])) == []
    assert "never went" in next(moving_violations([lost], [late], [], []))
    bypass = replace(PUSH, name="bypass 1", kind=Kind.BYPASS)
    assert list(moving_violations([lost, bypass], [late], [], [])) == []
    assert list(moving_violations([PUSH], [CREATED], [], [])) == [], "it saw its content under the tag"
    assert "had stored it" in next(moving_violations([lost], [failed], place, place))


def test_i10_a_tag_comes_to_be_once() -> None:
    adopted = replace(CREATED, event_id="e2", action="adopt", outcome="adopted", operation="")
    assert list(beginnings([PUSH], [CREATED])) == []
    assert "came to hold" in next(beginnings([PUSH], [CREATED, adopted]))
    assert "came to hold" in next(beginnings([replace(PUSH, answer=UNKNOWN), READ], []))


def test_the_time_grows_with_the_length_of_the_history_only() -> None:
    def seconds(count: int) -> float:
        history = [replace(READ, name=str(number), began=3 + number, ended=4 + number) for number in range(count)]
        began = time.process_time()
        assert violations([PUSH, *history]) == []
        return time.process_time() - began

    seconds(1000)
    assert seconds(100_000) < 30 * max(seconds(10_000), 0.005)


def test_i10_only_what_went_round_the_proxy_is_adopted() -> None:
    adopted = replace(CREATED, action="adopt", outcome="adopted", operation="")
    assert list(unexplained_adoptions([replace(PUSH, kind=Kind.BYPASS)], [adopted])) == []
    assert "I10" in next(unexplained_adoptions([PUSH], [adopted]))
