"""Reading a file for a command that looks at nothing else, and printing what is wrong with it.

Imports neither aiohttp nor redis, so that ``check`` and ``explain`` answer at once.
Exit status: 0 good, 1 the file has errors, 2 wrong usage or a file that cannot be read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import click

from immuproxy.rules.problems import DocumentErrors, FileProblem
from immuproxy.rules.source import MAX_BYTES


def read(file: Path, remedy: str) -> bytes:
    """The content, or a little more than a file may have; else the end of the command, with ``remedy``."""
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except OSError as error:
        _fail(f"cannot read {file}: {error.strerror}; {remedy}")


def _fail(message: str) -> NoReturn:
    click.echo(message, err=True)
    raise SystemExit(2)


def print_errors(errors: DocumentErrors, *, as_json: bool) -> None:
    """All of them, and the warnings; as JSON to standard output, else to standard error."""
    if as_json:
        click.echo(json.dumps(report(errors.source, errors.problems, errors.warnings)))
        return
    print_problems(errors.source, errors.problems, "error")
    print_problems(errors.source, errors.warnings, "warning")
    count = len(errors.problems)
    click.echo(f"{errors.source}: {count} error{'s' if count > 1 else ''}", err=True)


def print_problems(source: str, problems: Iterable[FileProblem], kind: str) -> None:
    """Each with its place; ``kind`` is error or warning."""
    for problem in problems:
        where = problem.place(source)
        click.echo(f"{where}: {click.style(kind, fg='red' if kind == 'error' else 'yellow')}: {problem}", err=True)


def report(source: str, errors: Iterable[FileProblem], warnings: Iterable[FileProblem]) -> dict[str, Any]:
    """What ``--json`` prints of a file."""
    wrong = [problem.to_dict() for problem in errors]
    return {"file": source, "ok": not wrong, "errors": wrong, "warnings": [item.to_dict() for item in warnings]}
