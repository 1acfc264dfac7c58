from __future__ import annotations

from typing import Any

import pytest

from immuproxy.console.what_if import outcome
from immuproxy.console.what_if.outcome import WhatIfResult, in_words, problems_context


def verdict(outcome: str, *, shadow: bool = False) -> dict[str, Any]:
    return {"outcome": outcome, "rule": "r", "line": 3, "reason": "so", "shadow": shadow}


def difference(was: str, now: str, repository: str = "team/app", *, uncertain: str = "", shadow: bool = False) -> Any:
    return in_words(
        {"event": "e", "repository": repository, "was": verdict(was), "now": verdict(now, shadow=shadow),
         "uncertain": uncertain}
    )  # fmt: skip


def test_verdicts_are_said_as_the_audit_says_outcomes() -> None:
    told = difference("overwrite", "refuse")
    assert (told["was"]["outcome"], told["now"]["outcome"]) == ("overwritten", "refused")


def test_changes_are_counted_most_first() -> None:
    result = WhatIfResult(100, judged=9)
    for each in (
        difference("create", "refuse", "a"),
        difference("refuse", "overwrite", "b", uncertain="labels"),
        difference("create", "refuse", "a"),
        difference("create", "create", "c", shadow=True),
    ):
        assert result.add(each)
    told = result.to_dict()
    assert told["changes"] == [
        {"was": "created", "now": "refused", "count": 2},
        {"was": "refused", "now": "overwritten", "count": 1},
        {"was": "created", "now": "created (shadow)", "count": 1},
    ]
    assert (told["changed"], told["uncertain"], told["judged"], told["last"]) == (4, 1, 9, 100)
    assert told["repositories"][0] == {"name": "a", "count": 2}
    assert told["complete"]


def test_only_the_first_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "SHOWN", 2)
    result = WhatIfResult(100)
    assert [result.add(difference("create", "refuse")) for _ in range(3)] == [True, True, False]
    told = result.to_dict()
    assert (len(told["differences"]), told["changed"], told["complete"]) == (2, 3, False)


def test_a_problem_comes_with_its_line() -> None:
    problems = [{"line": 2, "message": "a"}, {"line": 0, "message": "b"}, {"line": 99, "message": "c"}]
    found = problems_context(problems, 4, f"one\n  two{'x' * 500}  \n")
    assert [len(problem["code"]) for problem in found["problems"]] == [outcome.LONGEST_CODE + 3, 0, 0]
    assert found["problems"][0]["code"].startswith("  twox")
    assert found["more"] == 4
