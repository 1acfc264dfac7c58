"""Patterns of repositories, tags and users: globs, ``re:`` and ``semver:``, each with ``!`` to exclude.

Whatever a user writes is matched by RE2, whose time grows linearly with the text: no pattern can hang the proxy.
Globs become regular expressions here; libraries that do so aim at Python's own engine, which backtracks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

import re2

from immuproxy.oci import names
from immuproxy.rules.problems import did_you_mean, one_of
from immuproxy.rules.versions import Version, VersionRange, parse_range, version_of

MAX_LENGTH = 1_000
"""Characters of one pattern."""

MAX_PROGRAM = 10_000
"""Instructions of one compiled regular expression; ``.{1000}`` has 2,000."""

_COMPILE_MEMORY = 1024 * 1024


class Axis(StrEnum):
    """What a pattern is matched against."""

    REPOSITORY = "repository"
    TAG = "tag"
    USER = "user"


class PatternKind(StrEnum):
    EXACT = "exact"
    GLOB = "glob"
    REGEX = "re"
    SEMVER = "semver"


class PatternError(ValueError):
    """A pattern that cannot be used, and what to write instead."""

    def __init__(self, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.suggestion = suggestion


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern.

    ``text`` is as written; ``regex`` is a full match for RE2 (empty for ``semver:``); ``size`` is what it costs an
    index, in instructions of RE2, roughly.
    """

    text: str
    excludes: bool
    kind: PatternKind
    regex: str = ""
    versions: VersionRange | None = None
    size: int = 0

    @property
    def body(self) -> str:
        """The text without the ``!``."""
        return self.text.removeprefix("!") if self.excludes else self.text

    def matches(self, name: str, version: Version | None) -> bool:
        """Whether it matches a name, be it to include or to exclude; ``version`` is `version_of` a tag."""
        if self.kind is PatternKind.EXACT:
            return name == self.body
        if self.versions is not None:
            return version is not None and self.versions.includes(version)
        return full_match(self.regex, name)


@dataclass(frozen=True, slots=True)
class PatternList:
    """The patterns of one key of a rule: any include and no exclude; the order does not matter.

    No includes means everything: an absent key, or a list of nothing but excludes.
    """

    patterns: tuple[Pattern, ...] = ()

    @property
    def includes(self) -> tuple[Pattern, ...]:
        return tuple(pattern for pattern in self.patterns if not pattern.excludes)

    @property
    def excludes(self) -> tuple[Pattern, ...]:
        return tuple(pattern for pattern in self.patterns if pattern.excludes)

    @property
    def texts(self) -> tuple[str, ...]:
        """The patterns as written."""
        return tuple(pattern.text for pattern in self.patterns)

    def described(self, limit: int | None = None) -> str:
        """``ci-* or bot, other than ci-7``; of more than ``limit`` patterns of a kind only how many more there are."""
        wanted = _alternatives(self.includes, limit) or "anybody"
        barred = _alternatives(self.excludes, limit)
        return f"{wanted}{',' if self.includes else ''} other than {barred}" if barred else wanted

    def matches(self, name: str) -> bool:
        """Whether the list takes in a name."""
        return self.why_not(name) is None

    def why_not(self, name: str) -> str | None:
        """None where the list takes in the name; otherwise the end of a sentence that begins with the name."""
        version = version_of(name)
        for pattern in self.excludes:
            if pattern.matches(name, version):
                return f'is excluded by "{pattern.text}"'
        includes = self.includes
        if not includes or any(pattern.matches(name, version) for pattern in includes):
            return None
        return f"matches none of {_listed([pattern.text for pattern in includes])}"


EVERYTHING = PatternList()
"""What an absent key means."""


def _alternatives(patterns: Sequence[Pattern], limit: int | None) -> str:
    """``a, b or c``, without the ``!``."""
    bodies = sorted({pattern.body for pattern in patterns})
    if limit is not None and len(bodies) > limit:
        return f"{', '.join(bodies[:limit])} or {len(bodies) - limit} others"
    return one_of(bodies) if bodies else ""


def _listed(texts: list[str], limit: int = 5) -> str:
    shown = ", ".join(f'"{text}"' for text in texts[:limit])
    return shown if len(texts) <= limit else f"{shown} and {len(texts) - limit} more"


def options(memory: int, *, unicode: bool = False) -> Any:
    """RE2 options: repositories and tags are ASCII, so that a byte is a character; of users that is not certain.

    ``memory`` in bytes is for program and cache.
    """
    chosen = re2.Options()
    chosen.encoding = re2.Options.Encoding.UTF8 if unicode else re2.Options.Encoding.LATIN1
    chosen.never_capture = True
    chosen.log_errors = False
    chosen.max_mem = memory
    return chosen


@lru_cache(maxsize=4096)
def _compiled(regex: str, *, unicode: bool) -> Any:
    return re2.compile(regex.encode(), options(8 * _COMPILE_MEMORY, unicode=unicode))


def full_match(regex: str, text: str) -> bool:
    """Whether RE2 matches the whole of a text."""
    unicode = not (regex.isascii() and text.isascii())
    return _compiled(regex, unicode=unicode).fullmatch(text.encode("utf-8", "replace")) is not None


def parse(text: str, axis: Axis) -> Pattern:
    """Read one pattern; raises `PatternError`."""
    if len(text) > MAX_LENGTH:
        raise PatternError(f"the pattern has {len(text)} characters; the limit is {MAX_LENGTH}")
    excludes = text.startswith("!")
    body = text[1:] if excludes else text
    if not body:
        raise PatternError("the pattern is empty")
    if axis is not Axis.USER and not body.isascii():
        raise PatternError(f'"{body}" can never match: names and tags are ASCII')
    if body.startswith("re:"):
        expression = body.removeprefix("re:")
        return Pattern(text, excludes, PatternKind.REGEX, expression, size=_program_size(expression, axis))
    if body.startswith("semver:"):
        versions = _versions(body.removeprefix("semver:"), axis)
        return Pattern(text, excludes, PatternKind.SEMVER, versions=versions, size=len(body))
    return _glob_or_exact(text, body, excludes, axis)


def _program_size(expression: str, axis: Axis) -> int:
    if not expression:
        raise PatternError("the regular expression is empty")
    try:
        chosen = options(_COMPILE_MEMORY, unicode=axis is Axis.USER)
        program: int = re2.compile(expression.encode(), chosen).programsize
    except re2.error as error:
        reason = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)
        raise PatternError(f"the regular expression is not valid: {reason}", _regex_hint(expression)) from None
    if program > MAX_PROGRAM:
        raise PatternError("the regular expression is too large", "use fewer or smaller repetitions {n}")
    return program


def _regex_hint(expression: str) -> str:
    if re.search(r"\(\?<?[=!]|\\[1-9]|[*+?}]\+|\(\?>", expression):
        return "look-around, back-references and possessive repetition do not exist in RE2; use ! to exclude"
    if expression.startswith(("*", "+", "?")):
        return 'a glob? then leave out "re:"'
    return ""


def _versions(text: str, axis: Axis) -> VersionRange:
    if axis is not Axis.TAG:
        raise PatternError('"semver:" is for tags', 'put it under "tags:"')
    try:
        return parse_range(text)
    except ValueError as error:
        raise PatternError(str(error)) from None


def _glob_or_exact(text: str, body: str, excludes: bool, axis: Axis) -> Pattern:  # noqa: FBT001  # internal
    if not re.search(r"[*?\[{]", body):
        _check_exact(body, axis)
        return Pattern(text, excludes, PatternKind.EXACT, re.escape(body), size=len(body))
    regex = glob_to_regex(body, axis)
    return Pattern(text, excludes, PatternKind.GLOB, regex, size=len(regex))


def _check_exact(body: str, axis: Axis) -> None:
    _check_characters(body, body, axis)
    if not _IS_NAME[axis](body):
        raise PatternError(f'"{body}" can never match: it is no valid {axis}')


_IS_NAME = {Axis.REPOSITORY: names.is_repository, Axis.TAG: names.is_tag, Axis.USER: str.isprintable}

_TOKEN = re.compile(
    r"""(?P<segments>(?:(?<=/)|^)\*\*+/)   # any number of whole segments, none included
      | (?P<below>(?<=/)\*\*+$)            # all that is below
      | (?P<any>\*\*+)
      | (?P<star>\*)
      | (?P<one>\?)
      | (?P<set>\[[!^]?[^\]]+\])
      | (?P<open>\{)
      | (?P<close>\})
      | (?P<comma>,)
      | (?P<literal>[^*?\[{},]+)
      | (?P<bad>.)""",
    re.VERBOSE | re.DOTALL,
)
_TRANSLATED = {
    "segments": "(?:.*/)?",
    "below": ".+",
    "any": ".*",
    "star": "[^/]*",
    "one": "[^/]",
    "open": "(?:",
    "close": ")",
}
_SET = re.compile(r"\[([!^]?)([A-Za-z0-9._-]+)\]", re.ASCII)


def glob_to_regex(body: str, axis: Axis) -> str:
    """A glob as a regular expression for a full match; raises `PatternError`.

    ``*`` and ``?`` stop at ``/``, ``**`` crosses it; ``**/`` at the start of a segment may be nothing at all, ``/**``
    at the end is at least one character; ``[abc]``, ``[!abc]`` and ``{one,two}`` are as in a shell.
    """
    parts, depth = [], 0
    for token in _TOKEN.finditer(body):
        kind, text = str(token.lastgroup), token.group()
        if kind == "comma" and not depth and axis is Axis.USER:
            kind = "literal"
        depth += (kind == "open") - (kind == "close")
        if kind == "bad" or depth < 0 or (kind == "comma" and not depth):
            raise _bad_character(body, text, axis)
        parts.append(_translate(kind, text, body, axis))
    if depth:
        raise PatternError(f'a "{{" is not closed in "{body}"')
    return "".join(parts)


def _translate(kind: str, text: str, body: str, axis: Axis) -> str:
    if kind == "literal":
        _check_characters(text, body, axis)
        if axis is not Axis.USER and text.startswith("/") and body.startswith(text):
            raise PatternError(f'"{body}" can never match: names do not start with "/"', f'write "{body.lstrip("/")}"')
        return re.escape(text)
    if kind == "set":
        return _set(text, body, axis)
    return "|" if kind == "comma" else _TRANSLATED[kind]


def _set(text: str, body: str, axis: Axis) -> str:
    found = _SET.fullmatch(text)
    if found is None:
        raise _bad_character(body, text, axis)
    if axis is Axis.USER and not found[1] and "-" not in found[2]:
        # Names such as "dependabot[bot]" exist, and a set would let in "dependabotb".
        raise PatternError(f'"{text}" would be one character of these, in "{body}"', _bracket_hint(body))
    expression = f"[^/{found[2]}]" if found[1] else f"[{found[2]}]"
    try:
        re2.compile(expression.encode("latin-1"), options(_COMPILE_MEMORY))
    except re2.error:
        raise PatternError(f'"{text}" is no valid set of characters in "{body}"') from None
    return expression


def _bracket_hint(body: str) -> str:
    literally = re.escape(body).replace(r"\-", "-").replace(r"\*", ".*")
    return f"a name with brackets? write 're:{literally}'; one of several words? write {{one,two}}"


_CHARACTERS = {
    Axis.REPOSITORY: re.compile(r"[a-z0-9._/-]+", re.ASCII),
    Axis.TAG: re.compile(r"[A-Za-z0-9._-]+", re.ASCII),
}
_ALLOWED: dict[Axis, Callable[[str], object]] = {
    **{axis: pattern.fullmatch for axis, pattern in _CHARACTERS.items()},
    Axis.USER: str.isprintable,
}


def _check_characters(text: str, body: str, axis: Axis) -> None:
    """Refuse what no name can contain: such a pattern would protect nothing, silently."""
    if not _ALLOWED[axis](text):
        strange = next(character for character in text if not _ALLOWED[axis](character))
        raise _bad_character(body, strange, axis)


def _bad_character(body: str, strange: str, axis: Axis) -> PatternError:
    if axis is Axis.REPOSITORY and strange.isupper():
        return PatternError(f'"{body}" can never match: repository names are lower case', f'write "{body.lower()}"')
    if axis is Axis.USER and strange.isprintable():
        return PatternError(f'"{strange}" cannot stand like this in "{body}"', _bracket_hint(body))
    message = f'"{body}" can never match: no {axis} contains "{strange}"'
    return PatternError(message, _suggest_for(body, strange, axis))


def _suggest_for(body: str, strange: str, axis: Axis) -> str:
    prefix, colon, _ = body.partition(":")
    if colon and re.fullmatch(r"[A-Za-z]+", prefix):
        near = did_you_mean(prefix, ["re", "semver", "regex", "regexp"]).replace("regexp", "re").replace("regex", "re")
        if near:
            return near.replace('"?', ':"?')
    if strange == ":" and axis is Axis.REPOSITORY:
        return 'repositories and tags are separate: put what follows the ":" under "tags:"'
    if strange == "/":
        return 'repositories go under "repositories:"'
    if strange in {",", " "}:
        return "several patterns are written as a list"
    if axis is Axis.TAG and re.match(r"[<>=^~]=?\s*v?[0-9]", body):
        return f'a range of versions? write "semver:{body}"'
    return f"a regular expression? write 're:{body}'" if strange in r"\^$+(|" else ""
