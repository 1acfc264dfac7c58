"""Reading nodes as typed values; what is wrong goes to the findings, and the reading goes on.

The sections beside the rules are read by pydantic (`immuproxy.values.sections`).  Of rules it would tell too little: a
file of ten thousand, whose lists are shared by aliases, is read once per list, each pattern has a line of its own to
complain about, and a text that YAML takes for something else, or a tag, is told with what to write instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from immuproxy.rules.problems import Findings, did_you_mean, one_of
from immuproxy.rules.source import Mapping, Node, Scalar, Sequence, describe

_TRUTHS = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}
_Word = TypeVar("_Word", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Fields:
    """One mapping of the document: what it says, and where to complain."""

    mapping: Mapping
    path: str
    findings: Findings

    def only(self, known: Iterable[str]) -> None:
        """Report every other key."""
        known = list(known)
        for key, (node, _) in self.mapping.entries.items():
            if key not in known:
                hint = did_you_mean(key, known) or f"known keys are {', '.join(known)}"
                self.findings.error(node, f'unknown key "{key}"', hint, self.place(key))

    def place(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def text(self, key: str) -> str | None:
        """A text that is not empty; None where the key is absent or wrong."""
        node = self.mapping.get(key)
        return None if node is None else text(node, self.place(key), self.findings)

    def word(self, key: str, words: type[_Word]) -> _Word | None:
        """One of a few words; None where the key is absent or wrong."""
        node = self.mapping.get(key)
        found = self.text(key)
        if node is None or found is None:
            return None
        if found in set(words):
            return words(found)
        message = f'"{found}" is not known here; {key} is {one_of(words)}'
        self.findings.error(node, message, did_you_mean(found, words), self.place(key))
        return None

    def boolean(self, key: str, *, default: bool) -> bool:
        """``true`` or ``false``."""
        node = self.mapping.get(key)
        if node is None:
            return default
        if isinstance(node, Scalar) and node.kind == "a boolean":
            return node.text[0] in "tT"
        word = _TRUTHS.get(node.text.lower(), "") if isinstance(node, Scalar) else ""
        self.findings.error(node, f"{key} is true or false", word and f"write {word}", self.place(key))
        return default

    def items(self, key: str, what: str, otherwise: str) -> Iterator[tuple[str, Node]]:
        """The items of a list, each with its place; a single value counts as a list of one.

        An empty list is an error, because it would match or allow nothing; ``otherwise`` says what leaving the key out
        means.
        """
        node = self.mapping.get(key)
        if isinstance(node, Scalar) and node.kind != "empty":
            yield self.place(key), node
        elif isinstance(node, Sequence) and node.items:
            yield from ((f"{self.place(key)}[{number}]", item) for number, item in enumerate(node.items))
        elif node is not None:
            wanted = (
                f"{key} is a list of {what}, not {'an empty one' if isinstance(node, Sequence) else describe(node)}"
            )
            self.findings.error(node, wanted, otherwise, self.place(key))


def text(node: Node, path: str, findings: Findings) -> str | None:
    """A text that is not empty.  What YAML would take for a number, a boolean or a date must be quoted."""
    if not isinstance(node, Scalar):
        findings.error(node, f"expected text, found {describe(node)}", _quote_hint(node), path)
    elif node.tag:
        _report_tag(node, path, findings)
    elif node.kind == "empty" and not node.text:
        findings.error(node, "expected text, found nothing", path=path)
    elif node.kind != "text":
        findings.error(node, f"{node.text} is {node.kind} to YAML, not text", f'quote it: "{node.text}"', path)
    elif not node.text.strip():
        findings.error(node, "expected text, found an empty one", path=path)
    else:
        return node.text
    return None


def _report_tag(node: Scalar, path: str, findings: Findings) -> None:
    shown = node.tag if not node.text else f"{node.tag} {node.text}"
    findings.error(
        node, f"{shown} is a YAML tag, not text", f'a pattern that begins with ! must be quoted: "{shown}"', path
    )


def _quote_hint(node: Node) -> str:
    """``semver: >=1`` and ``{a,b}`` become mappings when they are not quoted."""
    if isinstance(node, Mapping) and len(node.entries) == 1:
        ((key, (_, value)),) = node.entries.items()
        if key in {"re", "semver"} and isinstance(value, Scalar):
            return f"quote it, without the blank: '{key}:{value.text}'"
    return "" if isinstance(node, Sequence) else "a value with { } or : in it must be quoted"
