"""YAML text -> nodes that know their line and column.

Built on the events of libyaml, not on a loader of values: a loader has turned ``1.10`` into 1.1 and dropped duplicate
keys before anybody can complain, and the pure Python ones need seconds for large files.  Aliases share one node, are
never expanded, and cannot form a cycle, so that a small file cannot become a large structure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from immuproxy.rules.problems import DocumentErrors, FileProblem, Findings

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_MERGED_KEYS = 100_000

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", re.ASCII
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?", re.ASCII)
_KINDS = ((_NULL, "empty"), (_BOOLEAN, "a boolean"), (_INTEGER, "a number"), (_FLOAT, "a number"), (_DATE, "a date"))
_LONGEST_PLAIN = 64
_YAML_TAGS = "tag:yaml.org,2002:"
_TEXT_TAG = f"{_YAML_TAGS}str"
_MAY_BE_SECRET = re.compile(r"password|://", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """A single value.  ``text`` is as written, without quotes; ``start`` and ``end`` count characters of the
    document.
    """

    text: str
    plain: bool
    tag: str
    line: int
    column: int
    start: int
    end: int

    @property
    def kind(self) -> str:
        """``text``, or what YAML takes the bare word for: ``empty``, ``a boolean``, ``a number``, ``a date``."""
        if not self.plain or len(self.text) > _LONGEST_PLAIN:
            return "text"
        return next((kind for pattern, kind in _KINDS if pattern.fullmatch(self.text)), "text")


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """A list."""

    items: tuple[Node, ...]
    line: int
    column: int


@dataclass(frozen=True, slots=True, eq=False)
class Mapping:
    """Keys and values, merge keys applied.  ``entries`` keeps the file's order."""

    entries: dict[str, tuple[Scalar, Node]]
    line: int
    column: int

    def get(self, key: str) -> Node | None:
        """The value of ``key``."""
        entry = self.entries.get(key)
        return entry[1] if entry else None


Node = Scalar | Sequence | Mapping


def describe(node: Node) -> str:
    """What the node is, in a sentence such as "expected text, found a list"."""
    if isinstance(node, Scalar):
        return "nothing" if node.kind == "empty" else node.kind
    return "a list" if isinstance(node, Sequence) else "a mapping (key: value)"


def plain_value(node: Node, _done: dict[Node, Any] | None = None) -> Any:
    """The node as YAML 1.2 values: text, int, float, bool, None, list, dict.  Dates stay text, aliases stay shared."""
    done: dict[Node, Any] = {} if _done is None else _done
    if node not in done:
        done[node] = _value(node, done)
    return done[node]


def _value(node: Node, done: dict[Node, Any]) -> Any:
    if isinstance(node, Mapping):
        return {key: plain_value(value, done) for key, (_, value) in node.entries.items()}
    if isinstance(node, Sequence):
        return [plain_value(item, done) for item in node.items]
    return _scalar_value(node)


def _scalar_value(node: Scalar) -> Any:
    match node.kind:
        case "empty":
            return None
        case "a boolean":
            return node.text[0] in "tT"
        case "a number":
            return _number(node.text)
        case _:
            return node.text


def _number(text: str) -> int | float:
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text.startswith(("0o", "0x")) else int(text)
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def compose(data: bytes | str, source: str, findings: Findings) -> Mapping:
    """Read one document whose top is a mapping.

    Adds duplicate keys and the like to ``findings``; raises `DocumentErrors` where nothing can be read at all: not
    UTF-8, larger than `MAX_BYTES`, a syntax error, an empty file, something else than a mapping.
    """
    text = decode(data, source)
    builder = _Builder(findings, text)
    try:
        for event in _events(text):
            builder.take(event)
    except yaml.YAMLError as error:
        raise DocumentErrors(source, [*findings.errors, _syntax_problem(error, text)], findings.warnings) from None
    except _GiveUp as give_up:
        raise DocumentErrors(source, [*findings.errors, give_up.problem], findings.warnings) from None
    top = builder.top
    if top is None or (isinstance(top, Scalar) and top.kind == "empty"):
        raise DocumentErrors(
            source, [FileProblem(1, 1, "the file is empty", 'it needs at least "default:" or "rules:"')]
        )
    if not isinstance(top, Mapping):
        message = f"the file must be a mapping (key: value) at its top, not {describe(top)}"
        hint = 'put the list under "rules:"' if isinstance(top, Sequence) else ""
        raise DocumentErrors(source, [FileProblem(top.line, top.column, message, hint)])
    return top


def decode(data: bytes | str, source: str) -> str:
    """The text of a file; raises `DocumentErrors` where it is too large or not UTF-8."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if len(raw) > MAX_BYTES:
        message = f"the file has more than {MAX_BYTES} bytes (1 MiB)"
        raise DocumentErrors(source, [FileProblem(0, 0, message)])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line = before.count(b"\n") + 1
        column = len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
        message = f"the file is not UTF-8 (byte 0x{raw[error.start]:02x})"
        raise DocumentErrors(source, [FileProblem(line, column, message, "save it as UTF-8")]) from None


def _events(text: str) -> Iterator[Any]:
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    parser = loader(text)
    try:
        while parser.check_event():
            yield parser.get_event()
    finally:
        parser.dispose()


class _GiveUp(Exception):  # stops the reading of one document, never leaves this module
    def __init__(self, line: int, column: int, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.problem = FileProblem(line, column, message, suggestion)


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not been seen yet."""

    mapping: bool
    anchor: str | None
    line: int
    column: int
    children: list[Node] = field(default_factory=list)


class _Builder:
    """Makes nodes of events, with a stack of its own: deep nesting ends in an error, not in a crash."""

    def __init__(self, findings: Findings, text: str) -> None:
        self.findings = findings
        self.top: Node | None = None
        self._text = text
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._documents = 0
        self._merged = 0

    def take(self, event: Any) -> None:
        match event:
            case yaml.ScalarEvent():
                self._add(_scalar(event), event.anchor)
            case yaml.AliasEvent():
                self._add(self._aliased(event), None)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._start(event)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                done = self._open.pop()
                self._add(self._close(done), done.anchor)
            case yaml.DocumentStartEvent():
                self._count_document(event)

    def _start(self, event: Any) -> None:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if len(self._open) >= MAX_DEPTH:
            raise _GiveUp(line, column, f"nested deeper than {MAX_DEPTH} levels")
        self._open.append(_Open(isinstance(event, yaml.MappingStartEvent), event.anchor, line, column))

    def _count_document(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            line, column = event.start_mark.line + 1, event.start_mark.column + 1
            raise _GiveUp(
                line, column, "a second document begins here", 'the file must be one document: remove the "---"'
            )

    def _add(self, node: Node, anchor: str | None) -> None:
        if anchor:
            self._anchors[anchor] = node
        if self._open:
            self._open[-1].children.append(node)
        else:
            self.top = node

    def _aliased(self, event: Any) -> Node:
        node = self._anchors.get(event.anchor)
        if node is not None:
            return node
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        word = _word_at(self._text, line, column)
        raise _GiveUp(
            line, column, f"{word} refers to an anchor that is not defined above", f'a pattern? quote it: "{word}"'
        )

    def _close(self, done: _Open) -> Node:
        if not done.mapping:
            return Sequence(tuple(done.children), done.line, done.column)
        entries: dict[str, tuple[Scalar, Node]] = {}
        merges: list[Node] = []
        for key, value in zip(done.children[::2], done.children[1::2], strict=True):
            if not isinstance(key, Scalar):
                self.findings.error(key, f"a key must be text, not {describe(key)}")
            elif key.plain and key.text == "<<":
                merges.append(value)
            elif key.text in entries:
                first = entries[key.text][0].line
                self.findings.error(key, f'the key "{key.text}" is already given on line {first}')
            else:
                entries[key.text] = (key, value)
        for value in merges:
            self._merge(entries, value)
        return Mapping(entries, done.line, done.column)

    def _merge(self, entries: dict[str, tuple[Scalar, Node]], value: Node) -> None:
        """YAML's merge key: what is written wins over what is merged, an earlier source over a later one."""
        sources = value.items if isinstance(value, Sequence) else (value,)
        for source in dict.fromkeys(sources):
            if not isinstance(source, Mapping):
                self.findings.error(source, f'"<<" merges mappings, not {describe(source)}')
                continue
            self._merged += len(source.entries)
            if self._merged > MAX_MERGED_KEYS:
                raise _GiveUp(source.line, source.column, f'"<<" merges more than {MAX_MERGED_KEYS} keys')
            for key, entry in source.entries.items():
                entries.setdefault(key, entry)


def _scalar(event: Any) -> Scalar:
    mark = event.start_mark
    tag = "" if event.tag in {None, _TEXT_TAG} else event.tag.replace(_YAML_TAGS, "!!")
    return Scalar(
        text=event.value,
        plain=event.style in {None, ""} and not event.tag,
        tag=tag,
        line=mark.line + 1,
        column=mark.column + 1,
        start=mark.index,
        end=event.end_mark.index,
    )


_UNQUOTED = {"while scanning an alias": "*", "while scanning a tag": "!"}
"""What libyaml was doing when it stumbled over a pattern that should have been quoted, and how such patterns begin."""


def _word_at(text: str, line: int, column: int) -> str:
    """The run of characters up to a blank or bracket at a place of the document; nothing that may be a password."""
    lines = text.split("\n")
    whole = lines[line - 1] if line <= len(lines) else ""
    rest = "..." if _MAY_BE_SECRET.search(whole) else whole[column - 1 :]
    found = re.match(r"[^\s,\]}]*", rest)
    return found.group()[:64] if found else ""


def _syntax_problem(error: yaml.YAMLError, text: str) -> FileProblem:
    if not isinstance(error, yaml.MarkedYAMLError):
        return _control_character(text)
    mark = error.context_mark if error.context in _UNQUOTED else error.problem_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    context = f" {error.context}" if error.context and "next token" not in error.context else ""
    place = error.context_mark
    if context and place is not None and mark is not None and place.line != mark.line:
        context += f" that begins on line {place.line + 1}"
    return FileProblem(line, column, f"YAML: {error.problem}{context}", _syntax_hint(error, text, line, column))


def _control_character(text: str) -> FileProblem:
    found = re.search(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    position = found.start() if found else 0
    before = text[:position]
    name = f"U+{ord(text[position]):04X}" if found else "unknown"
    column = position - (before.rfind("\n") + 1) + 1
    return FileProblem(before.count("\n") + 1, column, f"YAML: the control character {name} is not allowed")


def _syntax_hint(error: yaml.MarkedYAMLError, text: str, line: int, column: int) -> str:
    problem = error.problem or ""
    if error.context in _UNQUOTED:
        word = _word_at(text, line, column)
        return f'a pattern that begins with {_UNQUOTED[error.context]} must be quoted: "{word}"'
    if "unknown escape" in problem:
        return "use single quotes around regular expressions: 're:v\\d+'"
    if "mapping values are not allowed" in problem:
        return 'is the indentation right? a value with ": " in it must be quoted'
    if "cannot start any token" in problem:
        word = _word_at(text, line, column)
        return f'quote it: "{word}"' if word else "indent with spaces, not with tabs"
    return ""
