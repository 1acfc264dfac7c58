from __future__ import annotations

import pytest

from immuproxy.rules.problems import DocumentErrors, FileProblem, Findings, did_you_mean, one_of


@pytest.mark.parametrize(
    ("word", "known", "near"),
    [
        ("polcy", ["policy", "mode"], "policy"),
        ("Tags", ["tags"], "tags"),
        ("repo", ["repositories", "tags"], "repositories"),
        ("append_only", ["append-only"], "append-only"),
        ("pass_word_file", ["password_file"], "password_file"),
    ],
)
def test_a_misspelt_word_gets_the_nearest_known_one(word: str, known: list[str], near: str) -> None:
    assert did_you_mean(word, known) == f'did you mean "{near}"?'


def test_a_strange_word_gets_no_suggestion() -> None:
    assert did_you_mean("zzz", ["policy", "tags"]) == ""


def test_choices_read_like_a_sentence() -> None:
    assert one_of(["a"]) == "a"
    assert one_of(["a", "b", "c"]) == "a, b or c"


def test_problems_are_sorted_and_shown_the_way_editors_jump_to() -> None:
    errors = DocumentErrors(
        "f.yml", [FileProblem(3, 1, "later"), FileProblem(1, 7, "first", "try this"), FileProblem(0, 0, "all")]
    )
    assert str(errors).splitlines() == ["f.yml: all", "f.yml:1:7: first; try this", "f.yml:3:1: later"]
    assert errors.problems[1].to_dict() == {
        "line": 1,
        "column": 7,
        "message": "first",
        "suggestion": "try this",
        "path": "",
    }


def test_warnings_alone_raise_nothing() -> None:
    findings = Findings()
    findings.warn(FileProblem(1, 1, ""), "careful")
    findings.raise_errors("f")
    findings.error(FileProblem(2, 1, ""), "wrong")
    with pytest.raises(DocumentErrors) as raised:
        findings.raise_errors("f")
    assert [problem.message for problem in raised.value.warnings] == ["careful"]
