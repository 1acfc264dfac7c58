"""The map (docs/architecture.md) and CONTRIBUTING.md name what is there, and draw the rooms as the contracts do."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "immuproxy"
MAP = (ROOT / "docs" / "architecture.md").read_text()
TEXT = MAP + (ROOT / "CONTRIBUTING.md").read_text()
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

FILE = r"[\w.-]+(?:/[\w.-]+)*\.(?:py|lua|html|yaml|toml|md)"
NAMED = sorted(set(re.findall(rf"`({FILE}(?:::[\w.]+)?)`", TEXT)))
FOLDERS = sorted(set(re.findall(r"`([a-z_./]+/)`", TEXT)))
PLACEHOLDER = "NAME"


def found(path: str) -> Path:
    """Files of the package are named from its folder on, all others from the root."""
    return next((base / path for base in (PACKAGE, ROOT) if (base / path).exists()), ROOT / path)


@cache
def names(path: Path) -> set[str]:
    """All that a file defines at its top, and in its classes as ``Class.name``, what these inherit in the file too."""
    defined: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        defined |= _named(node)
        if isinstance(node, ast.ClassDef):
            defined |= {f"{node.name}.{name}" for child in node.body for name in _named(child)}
    return defined


def _named(node: ast.stmt) -> set[str]:
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return {node.name}
        case ast.Assign():
            return {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
        case _:
            return set()


@pytest.mark.parametrize("named", [name for name in NAMED if PLACEHOLDER not in name])
def test_what_is_named_exists(named: str) -> None:
    path, _, name = named.partition("::")
    assert found(path).is_file(), path
    assert not name or name in names(found(path)), named


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if PLACEHOLDER not in folder])
def test_a_folder_that_is_named_exists(folder: str) -> None:
    assert found(folder).is_dir()


def test_names_without_a_file_are_classes() -> None:
    classes = {
        node.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }
    assert set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]*)*)`", TEXT)) <= classes


def test_what_is_to_be_typed_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)\b(?= ARGS|`|  | &&|\n)", TEXT)) <= targets
    for path, name in re.findall(r"(tests/[\w/]+\.py)::(test_\w+)", TEXT):
        assert name in names(ROOT / path), name


def plan() -> list[tuple[int, set[str]]]:
    """Floors of the map, from the top, each with its rooms."""
    floors: dict[int, set[str]] = {}
    for floor, rooms in re.findall(r"^\| (\d+) \| (`[^|]+`) \|", MAP, re.MULTILINE):
        floors.setdefault(int(floor), set()).update(re.findall(r"`(\w+)(?:/|\.py)`", rooms))
    return list(floors.items())


def is_open(room: str) -> bool:
    return (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").is_file()


def drawn() -> list[set[str]]:
    """Floors of the contract, without rooms that have not opened yet; `cli` and `__main__` are one."""
    (layers,) = (contract["layers"] for contract in CONTRACTS if contract["type"] == "layers")
    floors = [{name for name in re.findall(r"\w+", layer) if is_open(name)} for layer in layers]
    return [floors[0] | floors[1], *floors[2:]]


def test_the_floors_are_those_of_the_contract() -> None:
    assert [rooms for _, rooms in plan()] == drawn()
    assert [floor for floor, _ in plan()] == list(range(len(drawn()), 0, -1))


def test_every_room_is_in_the_plan_and_every_one_there_is_open() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert set().union(*(rooms for _, rooms in plan())) == folders | files


def test_the_other_contracts_are_told_by_their_names() -> None:
    others = [contract["name"] for contract in CONTRACTS if contract["type"] != "layers"]
    (listed,) = re.findall(r"these contracts hold:\n\n((?:- .*\n)+)", MAP)
    assert re.findall(r"^- (.*)$", listed, re.MULTILINE) == others


def test_what_is_pure_is_so_by_a_contract() -> None:
    pure = set(re.findall(r"^\| \d+ \| `(\w+)/` \| PURE", MAP, re.MULTILINE))
    held = {
        contract["source_modules"][0].removeprefix("immuproxy.")
        for contract in CONTRACTS
        if len(contract.get("source_modules", [])) == 1 and "asyncio" in contract["forbidden_modules"]
    }
    assert pure == held
