"""Everything that reaches the terminal.  Text that a client chose never gets there with its control characters."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

UNLIMITED = 100_000
"""Columns of a table that is not for a terminal: nothing is folded there."""

_DIGEST_SHOWN = len("sha256:") + 12
_TONES = {
    "created": "green",
    "overwritten": "yellow",
    "refused": "red",
    "failed": "red",
    "unknown": "magenta",
    "deleted": "yellow",
    "found": "red",
    "healed": "green",
    "granted": "yellow",
    "rejected": "red",
}


def plain(text: str) -> str:
    """The text with every character that a terminal might obey, or that turns the writing round, replaced."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def moment(milliseconds: int) -> str:
    """RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def short(digest: str) -> str:
    """The beginning of a digest, by which people tell two apart."""
    return digest[:_DIGEST_SHOWN]


def counted(number: int, one: str, many: str = "") -> str:
    """``1 tag``, ``1,204 tags``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def coloured(outcome: str) -> str:
    """The word in its colour; `click.echo` takes the colour away where there is no terminal."""
    return click.style(plain(outcome), fg=_TONES.get(outcome))


def say(text: str) -> None:
    """Words beside the result, on standard error."""
    click.echo(plain(text), err=True)


def warn(text: str) -> None:
    """What went wrong, or may surprise, on standard error."""
    click.echo(f"{click.style('warning', fg='yellow')}: {plain(text)}", err=True)


def json_line(values: Any) -> None:
    """One line of JSON Lines, at once: whoever reads it may be waiting.  Everything beyond ASCII is escaped."""
    click.echo(json.dumps(values, separators=(",", ":")))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns on standard output, folded to a terminal's width and nowhere else."""
    shown = Table(*headings, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        shown.add_row(*(Text(plain(cell), style=_TONES.get(cell, "")) for cell in row))
    on_terminal = sys.stdout.isatty()
    console = Console(width=None if on_terminal else UNLIMITED, force_terminal=on_terminal, highlight=False)
    with console.capture() as captured:
        console.print(shown)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


class ProgressBar:
    """A progress bar, or nothing where nobody would see it."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        """Use `progress_bar`."""
        self._progress = progress
        self._task = task

    def total(self, steps: int) -> None:
        """How many steps there are in all, as far as that is known now."""
        self._progress.update(self._task, total=steps)

    def done(self, steps: float) -> None:
        """How many are done, with the part of the one that is being worked on."""
        self._progress.update(self._task, completed=steps)

    def advance(self) -> None:
        """One more is done."""
        self._progress.advance(self._task)

    def at(self, what: str) -> None:
        """What is being worked on."""
        self._progress.update(self._task, what=plain(what))


@contextmanager
def progress_bar(label: str, unit: str, *, as_json: bool) -> Iterator[ProgressBar]:
    """A bar on standard error, only on a terminal, and not where JSON goes to the same one."""
    shown = sys.stderr.isatty() and not (as_json and sys.stdout.isatty())
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit, markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[what]}", markup=False),
    )
    with Progress(
        *columns, console=Console(stderr=True), transient=True, disable=not shown, redirect_stdout=False
    ) as progress:
        yield ProgressBar(progress, progress.add_task(label, total=None, what=""))
