r"""The search syntax of the audit log.  No I/O here, and no clock: ``now_ms`` is an argument.

::

    repo:team/** tag:v1* outcome:refused actor:ci ip:10.0.0.0/8 since:7d -rule:"moving tags" "no such manifest"

Words are separated by white space and must all hold.  ``key:value`` asks for a field; several of the same key are
alternatives; ``-`` in front excludes.  In ``repo`` values ``*`` stops at a slash and ``**`` crosses it; in other
values ``*`` stands for anything, and ``?`` for one character.  A value in double quotes is taken as it is
(``\"`` and ``\\`` inside), and ``""`` means "none".  A word without a key is looked for in all that is shown,
upper and lower case alike.  ``since`` is inclusive, ``until`` is exclusive.

These patterns are not those of the rules (`immuproxy.rules.patterns`): they look for any text that was once recorded,
so nothing in them is an error, sets and alternatives in ``[]`` and ``{}`` mean themselves, and only in ``repo`` does a
slash stop anything.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import NoReturn

import re2

from immuproxy.ledger.model import Action, Outcome
from immuproxy.values.durations import parse_duration

KEYS: Mapping[str, str] = {
    "repo": "repository, such as team/app, team/* or team/**",
    "tag": "tag, such as v1.2 or v1*",
    "digest": "digest or its beginning, the new or the previous one",
    "outcome": "how it ended: " + ", ".join(Outcome),
    "action": "what was asked for or found: " + ", ".join(Action),
    "actor": "who",
    "rule": "name of the rule that decided",
    "ip": "client address or network, such as 10.0.0.0/8",
    "agent": "the client's program, such as docker/*",
    "id": "event id or request id",
    "shadow": "yes: a rule in shadow mode would have refused it",
    "since": "from this time on: 7d, 24h, 30m or 2026-01-31T18:00Z",
    "until": "before this time: 7d, 24h, 30m or 2026-01-31T18:00Z",
}
"""Every key of the syntax, with what its value is; for completion and help."""

TEXT = "text"
"""The key of a `Term` that is looked for in all shown fields."""

LONGEST = 2_000
"""Characters in a search."""

MOST_TERMS = 32
"""Terms in a search."""

_ALIASES = {
    "repository": "repo",
    "client_address": "ip",
    "address": "ip",
    "user_agent": "agent",
    "user": "actor",
    "sha256": "digest",
    "after": "since",
    "before": "until",
}
_WORD = re.compile(
    r'\s*(?P<word>(?P<minus>-?)(?:(?P<key>[A-Za-z_]+|sha256):)?(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s"]*)))',
    re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_BARE_VALUE = re.compile(r'[^\s"]+')
_BARE_TEXT = re.compile(r'(?![A-Za-z_]+:|sha256:)[^\s"-][^\s"]*')
_DIGEST = re.compile(r"(?:sha256:)?(?P<hex>[0-9a-f]{1,64})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PIECES = re.compile(r"(?:(?<=/)|^)\*\*/|\*\*|[*?]|[^*?]+")
_MEANING = {"**/": ".*/", "**": ".*", "*": ".*", "?": "."}
_MEANING_IN_PATH = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_YES_NO = {"yes": "yes", "true": "yes", "1": "yes", "no": "no", "false": "no", "0": "no"}


WILDCARDS = re.compile(r"[*?]+")
"""What is between the plain parts of a pattern."""


class SearchError(ValueError):
    """A search that makes no sense: what is wrong, where, and what may have been meant.

    ``offset`` and ``length`` are the offending word in characters of the text (of the value, for a parameter);
    ``key`` is its key, if it has one.  ``suggestion`` is what to write instead of that word, or empty.
    """

    def __init__(self, message: str, *, offset: int = 0, length: int = 0, key: str = "", suggestion: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.length = length
        self.key = key
        self.suggestion = suggestion


@dataclass(frozen=True, slots=True)
class Term:
    """One condition.  ``literal``: ``*`` and ``?`` stand for themselves (only ever set where there are some)."""

    key: str
    value: str
    literal: bool = False
    exclude: bool = False

    @property
    def exact(self) -> bool:
        """Whether the value is one value, not a pattern."""
        return self.literal or not has_wildcard(self.value)

    def to_text(self) -> str:
        """The term as people write it."""
        bare = (_BARE_TEXT if self.key == TEXT else _BARE_VALUE).fullmatch(self.value)
        value = self.value if bare and not self.literal else _quote(self.value)
        return f"{'-' * self.exclude}{'' if self.key == TEXT else self.key + ':'}{value}"


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time, as milliseconds since 1970 UTC and as it was written (``7d`` stays ``7d`` in a link)."""

    at: int
    text: str


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for; made by `parse` or `from_parameters`.  The empty search is everything."""

    terms: tuple[Term, ...] = ()
    since: Moment | None = None
    until: Moment | None = None

    def to_text(self) -> str:
        """The search in its syntax; `parse` reads it back to the same value (at the same ``now_ms``)."""
        words = [term.to_text() for term in self.terms]
        times = (("since", self.since), ("until", self.until))
        return " ".join(words + [Term(key, moment.text).to_text() for key, moment in times if moment])

    def with_term(self, key: str, value: str, *, exclude: bool = False) -> Search:
        """Narrowed to exactly this value of ``key`` (or to all but it), for a click on a value.

        To include takes the place of other values of the key; to exclude adds to them.
        """
        term = Term(key, value, literal=key != TEXT and has_wildcard(value), exclude=exclude)
        kept = (each for each in self.terms if not _superseded(each, term))
        return replace(self, terms=(*kept, term))

    def values(self, key: str, *, exclude: bool = False) -> tuple[Term, ...]:
        """The terms of one key, included or excluded."""
        return tuple(term for term in self.terms if term.key == key and term.exclude == exclude)


def _superseded(old: Term, new: Term) -> bool:
    if old.key != new.key or old.key == TEXT:
        return old == new
    if not new.exclude:
        return not old.exclude or old.value == new.value
    return old.value == new.value and old.exact


def has_wildcard(value: str) -> bool:
    """Whether ``*`` or ``?`` occurs."""
    return "*" in value or "?" in value


def pattern_test(pattern: str, *, path: bool) -> Callable[[str], bool]:
    """A test for values.  In a ``path`` ``*`` and ``?`` stop at a slash, and ``**/`` also stands for nothing."""
    meaning = _MEANING_IN_PATH if path else _MEANING
    # A set of one: asking it is one native call, where `fullmatch` builds a match object (six times slower).
    compiled = re2.Set.FullMatchSet()
    compiled.Add("(?s)" + "".join(meaning.get(piece) or re2.escape(piece) for piece in _PIECES.findall(pattern)))
    compiled.Compile()
    return lambda value: bool(compiled.Match(value))


def _quote(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass(frozen=True, slots=True)
class _Word:
    """One word as it was typed."""

    offset: int
    text: str
    key: str
    value: str
    quoted: bool
    exclude: bool

    def error(self, message: str, suggestion: str = "") -> SearchError:
        return SearchError(message, offset=self.offset, length=len(self.text), key=self.key, suggestion=suggestion)


def parse(text: str, now_ms: int) -> Search:
    """Read a search as typed; raises `SearchError` for the first word that makes no sense.

    ``now_ms`` is what durations such as ``since:7d`` count back from.
    """
    if len(text) > LONGEST:
        raise SearchError(f"a search has at most {LONGEST} characters", offset=LONGEST, length=len(text) - LONGEST)
    return _assemble(_words(text), now_ms)


def from_parameters(now_ms: int, **parameters: str | Sequence[str]) -> Search:
    """Build a search from separate parameters, by the long or short names of the keys, and ``text``.

    A parameter is one value or several; empty ones are left out; patterns work as in the syntax.  Raises `SearchError`,
    whose ``key`` is the parameter's name.
    """
    words = (
        _Word(0, value, "" if key == TEXT else key, value, quoted=False, exclude=False)
        for key, values in parameters.items()
        for value in ([values] if isinstance(values, str) else values)
        if value
    )
    return _assemble(words, now_ms)


def _words(text: str) -> Iterator[_Word]:
    end = 0
    while end < len(text) and (found := _WORD.match(text, end)):
        start, end = found.span("word")
        if end < len(text) and not text[end].isspace():
            _bad_quote(text, start, end)
        quoted = found["quoted"]
        value = found["bare"] if quoted is None else _ESCAPED.sub(r"\1", quoted)
        key, exclude = found["key"] or "", bool(found["minus"])
        yield _Word(start, found["word"], key, value, quoted=quoted is not None, exclude=exclude)


def _bad_quote(text: str, position: int, end: int) -> NoReturn:
    word = re.match(r"\S*", text[position:])
    length = len(word[0]) if word else 1
    if text[end] == '"' and text.count('"', end) == 1:
        raise SearchError("this quote is never closed", offset=end, length=len(text) - end, suggestion=text[end:] + '"')
    raise SearchError("quotes go around the whole value", offset=position, length=length)


def _assemble(words: Iterator[_Word], now_ms: int) -> Search:
    terms: dict[Term, None] = {}
    moments: dict[str, Moment] = {}
    for word in words:
        key = _key(word)
        if key in ("since", "until"):
            if key in moments:
                raise word.error(f"{key} is given twice")
            moments[key] = _moment(word, now_ms)
        elif word.key or word.value:
            terms[_term(key, word)] = None
        if len(terms) > MOST_TERMS:
            raise word.error(f"a search has at most {MOST_TERMS} terms")
    return Search(tuple(terms), moments.get("since"), moments.get("until"))


def _key(word: _Word) -> str:
    if not word.key:
        if word.exclude and not word.value:
            raise word.error("a minus sign excludes the word right behind it")
        return TEXT
    lower = word.key.lower()
    key = _ALIASES.get(lower, lower)
    if key not in KEYS:
        nearest = get_close_matches(lower, [*KEYS, *_ALIASES], 1)
        better = word.text.replace(word.key, _ALIASES.get(nearest[0], nearest[0]), 1) if nearest else _quote(word.text)
        hint = f"did you mean {better}?" if nearest else f"to look for these words, write {better}"
        raise word.error(f"there is no key {word.key!r}; {hint}", better)
    if not word.value and not word.quoted:
        raise word.error(f'{word.key} needs a value right behind the colon; {word.key}:"" means none')
    return key


def _term(key: str, word: _Word) -> Term:
    read = _READERS.get(key)
    if read:
        return Term(key, read(word), exclude=word.exclude)
    literal = key != TEXT and word.quoted and has_wildcard(word.value)
    return Term(key, word.value, literal=literal, exclude=word.exclude)


def _choice(word: _Word, choices: Sequence[str]) -> str:
    value = word.value.lower()
    if value in choices or (has_wildcard(value) and any(map(pattern_test(value, path=False), choices))):
        return value
    nearest = get_close_matches(value, choices, 1)
    hint, better = "", ""
    if nearest:
        hint, better = f"; did you mean {nearest[0]}?", word.text.replace(word.value, nearest[0])
    raise word.error(f"{word.key} is one of {', '.join(choices)}{hint}", better)


def _digest(word: _Word) -> str:
    found = _DIGEST.fullmatch(word.value.lower().rstrip("*"))
    if not found:
        raise word.error("a digest is sha256: and up to 64 of the characters 0-9 and a-f; its beginning will do")
    return f"sha256:{found['hex']}"


def _address(word: _Word) -> str:
    try:
        network = ipaddress.ip_network(word.value, strict=False)
    except ValueError:
        raise word.error(f"{word.value!r} is no address; write it as 10.1.2.3, 10.1.0.0/16 or 2001:db8::/32") from None
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def _yes_no(word: _Word) -> str:
    if word.value.lower() not in _YES_NO:
        raise word.error(f"{word.key} is yes or no")
    return _YES_NO[word.value.lower()]


_READERS: Mapping[str, Callable[[_Word], str]] = {
    "outcome": lambda word: _choice(word, list(Outcome)),
    "action": lambda word: _choice(word, list(Action)),
    "digest": _digest,
    "ip": _address,
    "id": lambda word: word.value,
    "shadow": _yes_no,
}


def _moment(word: _Word, now_ms: int) -> Moment:
    if word.exclude:
        raise word.error(f"{word.key} cannot be excluded; use since and until the other way round")
    try:
        at = now_ms - parse_duration(word.value)
    except ValueError:
        at = _date(word)
    return Moment(max(0, at), word.value)


def _date(word: _Word) -> int:
    try:
        moment = datetime.fromisoformat(word.value)
    except ValueError:
        raise word.error(
            f"{word.key} is a duration back from now (7d, 24h, 30m) or a date (2026-01-31, 2026-01-31T18:00Z)"
        ) from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(milliseconds=1)
