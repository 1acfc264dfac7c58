from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from immuproxy.rules.problems import DocumentErrors, FileProblem, Findings
from immuproxy.rules.source import MAX_BYTES, Mapping, Scalar, compose, plain_value


def read(data: bytes | str) -> tuple[Mapping, list[FileProblem]]:
    findings = Findings()
    return compose(data, "f", findings), findings.errors


def refused(data: bytes | str) -> FileProblem:
    with pytest.raises(DocumentErrors) as raised:
        compose(data, "f", Findings())
    return raised.value.problems[-1]


def test_every_node_knows_its_place() -> None:
    top, _ = read("a:\n  - {b: x}\n")
    inner = top.get("a")
    assert inner is not None
    assert (inner.line, inner.column) == (2, 3)
    assert (top.entries["a"][0].line, top.entries["a"][0].column) == (1, 1)


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("1.10", "a number"),
        ("10", "a number"),
        ("0x1F", "a number"),
        ("1e3", "a number"),
        (".5", "a number"),
        ("true", "a boolean"),
        ("null", "empty"),
        ("~", "empty"),
        ("", "empty"),
        ("2024-01-31", "a date"),
        ("no", "text"),
        ("1.2.3", "text"),
        ("v1", "text"),
        ("'1.10'", "text"),
        ('"true"', "text"),
        ("!!str 1.10", "text"),
    ],
)
def test_bare_words_that_are_not_text_are_told_apart(written: str, kind: str) -> None:
    node = read(f"a: {written}\n")[0].get("a")
    assert isinstance(node, Scalar)
    assert node.kind == kind


def test_plain_values_are_those_of_yaml_1_2() -> None:
    top, _ = read("{a: 1, b: 0x10, c: 1.5, d: no, e: null, f: [true, -.inf], g: 2024-01-01, h: '1', i: {j: k}}")
    assert plain_value(top) == {
        "a": 1,
        "b": 16,
        "c": 1.5,
        "d": "no",
        "e": None,
        "f": [True, float("-inf")],
        "g": "2024-01-01",
        "h": "1",
        "i": {"j": "k"},
    }


@pytest.mark.parametrize(
    ("data", "line", "column", "words"),
    [
        (b"", 1, 1, "empty"),
        (b"# nothing\n---\n", 1, 1, "empty"),
        (b"- a\n", 1, 1, "not a list"),
        (b"text\n", 1, 1, "not text"),
        (b"a: 1\nb:\n\tc: 1\n", 3, 1, "spaces, not with tabs"),
        (b"a: [x\nb: 1\n", 2, 2, "',' or ']'"),
        (b"a: b: c\n", 1, 5, "indentation"),
        (b"a:\n  - *.x\n", 2, 5, 'must be quoted: "*.x"'),
        (b"a: [x, *]\n", 1, 8, 'must be quoted: "*"'),
        (b"a: [!x/**]\n", 1, 5, 'must be quoted: "!x/**"'),
        (b"a: *dev\n", 1, 4, 'quote it: "*dev"'),
        (b"a: &a [*a]\n", 1, 8, "anchor"),
        (b'a: "re:\\d"\n', 1, 8, "single quotes"),
        (b"a: @x\n", 1, 4, 'quote it: "@x"'),
        (b"ok: 1\ncaf\xe9: 1\n", 2, 4, "UTF-8"),
        (b"\xff\xfea\x00", 1, 1, "UTF-8"),
        (b"a: 1\nb: \x07\n", 2, 4, "U+0007"),
        (b"a: 1\n---\nb: 2\n", 2, 1, "second document"),
        (b"a: " + b"[" * 40, 1, 35, "nested deeper"),
        (b"#" * (MAX_BYTES + 1), 0, 0, "1 MiB"),
    ],
)
def test_what_cannot_be_read_says_where_and_why(data: bytes, line: int, column: int, words: str) -> None:
    problem = refused(data)
    assert (problem.line, problem.column) == (line, column), problem
    assert words in str(problem)


def test_columns_count_characters_not_bytes() -> None:
    assert refused("äöü: b: c\n").column == 7


@pytest.mark.parametrize("line", ["password: @geheim", "url: @redis://:geheim@x", "password: *geheim*"])
def test_a_message_never_repeats_what_may_be_a_password(line: str) -> None:
    assert "geheim" not in str(refused(line))


def test_duplicate_keys_are_reported_with_the_line_of_the_first() -> None:
    top, errors = read("a: 1\nb: {c: 1, c: 2}\na: 2\n")
    assert [(problem.line, problem.column) for problem in errors] == [(2, 11), (3, 1)]
    assert "already given on line 1" in errors[1].message
    assert plain_value(top) == {"a": 1, "b": {"c": 1}}


def test_merge_keys_lose_against_what_is_written() -> None:
    top, errors = read("x: &x {a: 1, b: 1}\ny: &y {a: 2, c: 2}\nz: {b: 9, <<: [*x, *y]}\n")
    assert plain_value(top)["z"] == {"b": 9, "a": 1, "c": 2}
    assert errors == []


def test_a_key_or_a_merge_of_the_wrong_kind_is_reported() -> None:
    _, errors = read("? [a]\n: 1\nb: {<<: text}\n")
    assert sorted(problem.line for problem in errors) == [1, 3]


@pytest.mark.parametrize(
    "bomb",
    [
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)),
        "a0: &a0 {k0: x}\n"
        + "".join(f"a{n}: &a{n} {{k{n}: x, <<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 400)),
        "a: " + "[" * 500_000,
        "a: " + "{a: " * 200_000,
        "- " * 400_000,
    ],
)
def test_bombs_do_not_take_long(bomb: str) -> None:
    began = time.perf_counter()
    with contextlib.suppress(DocumentErrors):
        plain_value(read(bomb)[0])
    assert time.perf_counter() - began < 1.0


def test_merging_very_many_keys_is_refused() -> None:
    wide = "a: &a {" + ", ".join(f"k{n}: x" for n in range(5_000)) + "}\n"
    problem = refused(wide + "".join(f"b{n}: {{<<: *a}}\n" for n in range(30)))
    assert "merges more than" in problem.message


@settings(deadline=None, max_examples=50)
@given(st.one_of(st.binary(max_size=60), st.text(alphabet="ab:-[]{}&*!|>'\"#%@\n\t ,?<", max_size=40)))
def test_any_input_is_read_or_refused_with_a_place(data: bytes | str) -> None:
    problems: list[FileProblem] = []
    try:
        _, problems = read(data)
    except DocumentErrors as errors:
        problems = list(errors.problems)
    assert all(problem.line >= 1 and problem.column >= 1 for problem in problems)
