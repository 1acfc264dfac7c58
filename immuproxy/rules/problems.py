"""What is wrong with a file: where, what, and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol


class Located(Protocol):
    """Anything that knows its place in the file; both count from 1."""

    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


@dataclass(frozen=True, slots=True, order=True)
class FileProblem:
    """One error or warning.

    ``line`` and ``column`` count from 1; 0 where the file as a whole is meant.  ``path`` is the place inside the
    document, such as ``rules[2].tags[0]`` (lists count from 0).
    """

    line: int
    column: int
    message: str
    suggestion: str = ""
    path: str = ""

    def describe(self, source: str) -> str:
        """One line in the form that editors jump to: ``file:line:column: message; suggestion``."""
        return f"{self.place(source)}: {self}"

    def place(self, source: str) -> str:
        """``file:line:column``, or the file alone where it is meant as a whole."""
        return f"{source}:{self.line}:{self.column}" if self.line else source

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        """Message and suggestion, without the place."""
        return f"{self.message}; {self.suggestion}" if self.suggestion else self.message


class DocumentErrors(Exception):
    """A file that cannot be used; ``problems`` has everything that is wrong with it, in the file's order."""

    def __init__(self, source: str, problems: Iterable[FileProblem], warnings: Iterable[FileProblem] = ()) -> None:
        self.source = source
        self.problems = tuple(sorted(problems))
        self.warnings = tuple(sorted(warnings))
        super().__init__("\n".join(problem.describe(source) for problem in self.problems))


@dataclass(slots=True)
class Findings:
    """Collects problems while a document is read, so that all of them are reported at once."""

    errors: list[FileProblem] = field(default_factory=list)
    warnings: list[FileProblem] = field(default_factory=list)

    def error(self, at: Located, message: str, suggestion: str = "", path: str = "") -> None:
        self.errors.append(FileProblem(at.line, at.column, message, suggestion, path))

    def warn(self, at: Located, message: str, suggestion: str = "", path: str = "") -> None:
        self.warnings.append(FileProblem(at.line, at.column, message, suggestion, path))

    def raise_errors(self, source: str) -> None:
        """Raise `DocumentErrors` if there are any errors."""
        if self.errors:
            raise DocumentErrors(source, self.errors, self.warnings)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suggestion for a misspelt word, or an empty string."""
    known = list(known)
    folded = word.lower().replace("_", "-")
    near = difflib.get_close_matches(folded, known, 1) or difflib.get_close_matches(word.lower(), known, 1)
    near = near or [name for name in known if folded and name.startswith(folded)]
    return f'did you mean "{near[0]}"?' if near else ""


def one_of(words: Iterable[str]) -> str:
    """``a, b or c``."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
