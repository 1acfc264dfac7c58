"""docs/commands.md has every command and every option, and shows no others."""

from __future__ import annotations

import re

import click
import pytest

from immuproxy.cli import main
from tests.commands.conftest import ROOT

TEXT = (ROOT / "docs/commands.md").read_text()
COMMON, *SECTIONS = re.split(r"^## ", TEXT, flags=re.MULTILINE)
CONTEXT = click.Context(main)


def section(name: str) -> str:
    return next(text for text in SECTIONS if text.split("\n", 1)[0] == name)


def options(name: str) -> set[str]:
    command = main.get_command(CONTEXT, name)
    assert command is not None
    return {option for param in command.params for option in param.opts if option.startswith("--")}


def test_every_command_has_its_section_and_no_other_is_there() -> None:
    assert {text.split("\n", 1)[0] for text in SECTIONS} == set(main.list_commands(CONTEXT))
    for name in main.list_commands(CONTEXT):
        assert f"    immuproxy {name}" in COMMON


@pytest.mark.parametrize("name", main.list_commands(CONTEXT))
def test_every_option_is_in_its_section_and_no_other(name: str) -> None:
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", section(name)))
    assert told == options(name)


@pytest.mark.parametrize("name", main.list_commands(CONTEXT))
def test_every_section_and_every_help_has_an_example(name: str) -> None:
    assert re.search(rf"^    immuproxy {name}\b", section(name), re.MULTILINE)
    command = main.get_command(CONTEXT, name)
    assert command is not None
    assert f"immuproxy {name}" in (command.epilog or "")


def test_the_results_of_an_import_are_explained() -> None:
    from immuproxy.drift.importing import ImportResult

    assert all(f"| `{result}` |" in section("import") for result in ImportResult)


def test_the_numbers_are_those_of_the_code() -> None:
    from immuproxy.allow.permission import LONGEST_MS, MAX_REASON
    from immuproxy.commands import history, importing, simulate, verify

    assert f"({history.LIMIT})" in section("history")
    assert f"({importing.RATE})" in section("import")
    assert f"({verify.RATE})" in section("verify")
    assert f"({simulate.LAST:,} without" in section("simulate")
    assert f"{MAX_REASON} characters" in section("allow")
    assert f"at most {LONGEST_MS // 86_400_000} days" in section("allow")
