"""The checker of tags that may change or be deleted: right histories pass, and each kind of wrong one is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.invariants.checker import MISSING, OK, REFUSED, UNKNOWN, Kind, Operation, Recorded
from tests.invariants.moving import Grant, mortal_violations, overwritten_violations, ungranted

PUSH = Operation("push 1", Kind.PUSH, "t", 1, 2, OK, "d1")
NEXT = Operation("push 2", Kind.PUSH, "t", 3, 4, OK, "d2")
READ = Operation("read 1", Kind.READ, "t", 5, 6, OK, "d2")
DELETE = Operation("delete 1", Kind.DELETE, "t", 3, 4, OK, "d1")
CREATED = Recorded("e1", "t", "push", "created", "d1", "push 1", "", 2)
OVERWRITTEN = Recorded("e2", "t", "push", "overwritten", "d2", "push 2", "d1", 4)
BACK = Recorded("e3", "t", "push", "overwritten", "d1", "push 3", "d2", 8)
AUDIT = [CREATED, OVERWRITTEN]

RIGHT = {
    "old until the commit, new after it": ([PUSH, replace(READ, began=2, ended=3.5, digest="d1"), NEXT, READ], AUDIT),
    "the new one while its push is under way": ([PUSH, NEXT, replace(READ, began=3.1, ended=3.2)], AUDIT),
    "there and back": (
        [
            PUSH,
            NEXT,
            READ,
            replace(PUSH, name="push 3", began=7, ended=8),
            replace(READ, began=9, ended=9, digest="d1"),
        ],
        [*AUDIT, BACK],
    ),
    "a push without an answer": ([PUSH, replace(NEXT, answer=UNKNOWN), READ], AUDIT),
}

WRONG = {
    "I1: read 2": ([PUSH, NEXT, READ, replace(READ, name="read 2", began=7, ended=8, digest="d1")], AUDIT),
    "I1: read 1 was answered with d3": ([PUSH, NEXT, replace(READ, digest="d3")], AUDIT),
    "I1: read 1 was answered with d2 before": ([PUSH, replace(NEXT, began=7, ended=8), READ], AUDIT),
    "I2": ([PUSH, NEXT, READ, replace(READ, began=7, ended=8, answer=MISSING, digest="")], AUDIT),
    "I4": ([PUSH, replace(PUSH, name="push 2", answer=REFUSED, held="d1", began=3, ended=4)], [CREATED]),
    "I10": ([PUSH, NEXT], [CREATED, replace(OVERWRITTEN, previous="d0")]),
    "I10: created": ([PUSH, NEXT], [CREATED, replace(OVERWRITTEN, outcome="created", previous="")]),
}


@pytest.mark.parametrize("what", RIGHT)
def test_right_histories_of_overwritten_tags_pass(what: str) -> None:
    assert overwritten_violations(*RIGHT[what]) == []


@pytest.mark.parametrize("what", WRONG)
def test_wrong_histories_of_overwritten_tags_are_found(what: str) -> None:
    assert any(what in problem for problem in overwritten_violations(*WRONG[what]))


def test_an_overwrite_needs_an_exception_in_force() -> None:
    assert list(ungranted([PUSH, NEXT], AUDIT, [Grant("t", 3.5, 9)])) == []
    for grants in ([], [Grant("t", 5, 9)], [Grant("t", 1, 2)], [Grant("u", 1, 9)]):
        assert len(list(ungranted([PUSH, NEXT], AUDIT, grants))) == 1


GONE = replace(READ, name="gone", answer=MISSING, digest="")
THERE = replace(READ, digest="d1")
MORTAL_RIGHT = {
    "deleted": [PUSH, DELETE, GONE],
    "a read that overtakes the delete": [PUSH, replace(DELETE, ended=9), THERE, replace(GONE, began=7, ended=8)],
    "a delete without an answer that did nothing": [PUSH, replace(DELETE, answer=UNKNOWN), THERE],
    "refused after the delete": [PUSH, DELETE, replace(NEXT, began=5, ended=6, answer=REFUSED)],
}
MORTAL_WRONG = {
    "had been deleted": [PUSH, DELETE, THERE],
    "was answered with d1 after": [PUSH, DELETE, replace(PUSH, name="again", began=5, ended=6)],
    "nobody had deleted": [PUSH, GONE],
    "I1": [PUSH, DELETE, READ],
}


@pytest.mark.parametrize("what", MORTAL_RIGHT)
def test_right_histories_of_deletable_tags_pass(what: str) -> None:
    assert mortal_violations(MORTAL_RIGHT[what]) == []


@pytest.mark.parametrize("what", MORTAL_WRONG)
def test_wrong_histories_of_deletable_tags_are_found(what: str) -> None:
    assert any(what in problem for problem in mortal_violations(MORTAL_WRONG[what]))
