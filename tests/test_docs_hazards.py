"""The page of hazards has a row for each of them, and each row's tests are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HAZARDS = 145
REASON = re.compile(r"\*\*outside\*\*: \S.{20,}; \S.{10,}")
"""Why nothing shows it, and how it is noticed."""


def rows() -> list[tuple[int, list[str]]]:
    """Each row's number, and its other cells."""
    text = (ROOT / "docs" / "hazards.md").read_text()
    found = re.findall(r"^\| H(\d+) \| (.*) \|$", text, re.MULTILINE)
    return [(int(number), [cell.strip() for cell in rest.split(" | ")]) for number, rest in found]


ROWS = rows()


def defined(path: Path) -> set[str]:
    """The functions that a test file defines, also in classes."""
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_hazard_has_a_row_that_names_a_test() -> None:
    shown = {number for number, cells in ROWS if "::" in cells[-1]}
    outside = {number for number, cells in ROWS if cells[-1].startswith("**outside**")}
    assert shown | outside == set(range(1, HAZARDS + 1))


@pytest.mark.parametrize(("number", "cells"), ROWS, ids=lambda value: f"H{value}" if isinstance(value, int) else "")
def test_a_row_is_whole(number: int, cells: list[str]) -> None:
    assert len(cells) == 3, number
    assert all(cells)
    proof = cells[-1]
    if "::" not in proof:
        assert REASON.fullmatch(proof), proof


@pytest.mark.parametrize(
    "named", sorted({name for _, cells in ROWS for name in re.findall(r"`([^`]+::[^`]+)`", cells[-1])})
)
def test_a_named_test_exists(named: str) -> None:
    path, _, function = named.partition("::")
    assert (ROOT / path).is_file(), path
    assert function in defined(ROOT / path)


def test_no_code_cites_a_hazard_that_is_not_there() -> None:
    known = {number for number, _ in ROWS}
    for path in (ROOT / "immuproxy").rglob("*.py"):
        docs_and_comments = (line for line in path.read_text().splitlines() if "H" in line)
        cited = {int(number) for line in docs_and_comments for number in re.findall(r"[(, ]H(\d{1,3})\b", line)}
        assert cited <= known, path
