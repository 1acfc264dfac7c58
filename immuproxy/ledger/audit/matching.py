"""Whether an event, or a value, is what a search asks for.  No I/O here.

Patterns run on a linear-time engine: no search can hang the console.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import re2

from immuproxy.ledger.audit.entries import hex_digits
from immuproxy.ledger.audit.rows import FIELDS, SEPARATOR, Row
from immuproxy.ledger.search import TEXT, Search, Term, has_wildcard
from immuproxy.values import parse_address

RowTest = Callable[[Row], bool]
RawTest = Callable[[bytes], bool]
ValueTest = Callable[[str], bool]


def value_test(term: Term) -> ValueTest:
    """A test for values of the term's key (``exclude`` is left to the caller)."""
    if term.exact:
        return term.value.__eq__
    beginning = term.value.removesuffix("**" if term.key == "repo" else "*")
    if beginning != term.value and not has_wildcard(beginning):
        return lambda value: value.startswith(beginning)
    if term.key == "repo":
        return _compiled(_path_pattern(term.value))
    return _compiled("".join(_PLAIN.get(character) or re2.escape(character) for character in term.value))


_PLAIN = {"*": ".*", "?": "."}


def _compiled(pattern: str) -> ValueTest:
    # A set of one: asking it is one native call, where `fullmatch` builds a match object (six times slower).
    compiled = re2.Set.FullMatchSet()
    compiled.Add(f"(?s){pattern}")
    compiled.Compile()
    return lambda value: bool(compiled.Match(value))


def _path_pattern(glob: str) -> str:
    """``*`` and ``?`` stop at a slash, ``**`` crosses it; ``**/`` also stands for nothing."""
    parts: list[str] = []
    at = 0
    while at < len(glob):
        if glob.startswith("**/", at) and (at == 0 or glob[at - 1] == "/"):
            parts.append("(?:.*/)?")
            at += 3
        elif glob.startswith("**", at):
            parts.append(".*")
            at += 2
        else:
            parts.append({"*": "[^/]*", "?": "[^/]"}.get(glob[at]) or re2.escape(glob[at]))
            at += 1
    return "".join(parts)


def network_test(value: str) -> Callable[[str], bool]:
    """Whether an address, or a network, touches the network ``value``."""
    wanted = ipaddress.ip_network(value)

    def touches(text: str) -> bool:
        try:
            network = ipaddress.ip_network(text)
        except ValueError:
            return False
        return network.version == wanted.version and network.overlaps(wanted)

    return touches


_NOT_SHOWN = ("time", "size", "rule_line", "shadow", "actor_source", "actor_confirmed", "duration_ms")


def _index(name: str) -> int:
    return FIELDS.index(name)


def _address_test(term: Term) -> RowTest:
    wanted, at = ipaddress.ip_network(term.value), _index("client_address")

    @lru_cache(maxsize=1_024)
    def inside(text: bytes) -> bool:
        address = parse_address(text.decode())
        return address is not None and address in wanted

    return lambda row: inside(row[at])


def _digest_test(term: Term) -> RowTest:
    wanted = hex_digits(term.value).encode()
    new, previous = _index("digest"), _index("previous_digest")
    return lambda row: _begins(row[new], wanted) or _begins(row[previous], wanted)


def _begins(digest: bytes, wanted: bytes) -> bool:
    return digest.rpartition(b":")[2].startswith(wanted)


def _id_test(term: Term) -> RowTest:
    wanted, own, request = term.value.encode(errors="replace"), _index("id"), _index("request_id")
    return lambda row: wanted in (row[own], row[request])


def _shadow_test(term: Term) -> RowTest:
    wanted, at = b"1" if term.value == "yes" else b"", _index("shadow")
    return lambda row: row[at] == wanted


_SHOWN = tuple(FIELDS.index(name) for name in FIELDS if name not in _NOT_SHOWN)
_REPOSITORY, _TAG = _index("repository"), _index("tag")


def _text_test(term: Term) -> RowTest:
    wanted = term.value.casefold()
    wire = wanted.encode(errors="replace")

    def occurs(row: Row) -> bool:
        shown = b"\n".join((*(row[at] for at in _SHOWN), row[_REPOSITORY] + b":" + row[_TAG]))
        if shown.isascii():
            return wire in shown.lower()
        return wanted in shown.decode().casefold()

    return occurs


_FIELD_OF = {
    "repo": "repository",
    "tag": "tag",
    "actor": "actor",
    "rule": "rule",
    "outcome": "outcome",
    "action": "action",
    "agent": "user_agent",
}


def _field_test(term: Term) -> RowTest:
    at = _index(_FIELD_OF[term.key])
    if term.exact:
        wanted = term.value.encode(errors="replace")
        return lambda row: row[at] == wanted
    test = value_test(term)

    @lru_cache(maxsize=4_096)
    def matches(value: bytes) -> bool:
        return test(value.decode())

    return lambda row: matches(row[at])


_TESTS: dict[str, Callable[[Term], RowTest]] = {
    "ip": _address_test,
    "digest": _digest_test,
    "id": _id_test,
    "shadow": _shadow_test,
    TEXT: _text_test,
}
_TIME = _index("time")


def row_test(search: Search) -> RowTest:
    """The whole search as one test."""
    included: dict[str, list[RowTest]] = {}
    required: list[RowTest] = []
    for term in search.terms:
        test = _TESTS.get(term.key, _field_test)(term)
        if term.exclude:
            required.append(_negated(test))
        elif term.key == TEXT:
            required.append(test)
        else:
            included.setdefault(term.key, []).append(test)
    required += [_any(tests) for tests in included.values()]
    since = search.since.at if search.since else None
    until = search.until.at if search.until else None

    def matches(row: Row) -> bool:
        time = int(row[_TIME] or 0)
        if (since is not None and time < since) or (until is not None and time >= until):
            return False
        return all(test(row) for test in required)

    return matches


def requirements(search: Search) -> list[list[bytes]]:
    """What must occur in an event as it is written, in lower case, for it to match: one of each list.

    Necessary, not enough; and what is not all ASCII may match without.  Most keys are left to the postings.
    """
    found = [_spellings(term.value.casefold()) for term in search.values(TEXT) if "\n" not in term.value]
    for key in ("agent", "tag", "repo"):
        terms = search.values(key)
        if terms and (key == "agent" or not all(term.exact for term in terms)):
            found.append([_fragment(term).lower().encode(errors="replace") for term in terms])
    return [each for each in found if all(each)]


def raw_test(required: Sequence[Sequence[bytes]]) -> RawTest:
    """Whether an event, as it is written, fulfils the `requirements` of a search: far quicker than its `row_test`."""

    def may_match(raw: bytes) -> bool:
        lower = raw.lower()
        return all(any(spelling in lower for spelling in spellings) for spellings in required) or not raw.isascii()

    return may_match


def _spellings(word: str) -> list[bytes]:
    """The word as it may stand in what is written, where a repository and its tag are not apart by a colon."""
    parts = word.split(":")
    joined = (":".join(parts[:at]) + SEPARATOR + ":".join(parts[at:]) for at in range(1, len(parts)))
    return [each.encode(errors="replace") for each in (word, *joined)]


_WILDCARDS = re.compile(r"[*?]+")


def _fragment(term: Term) -> str:
    """The longest part of a whole value that stands between wildcards."""
    whole = f"{SEPARATOR}{term.value}{SEPARATOR}"
    if term.exact:
        return whole
    parts = _WILDCARDS.split(whole.replace("**/", "*"))
    return max(parts, key=len) if term.value.strip("*?/") else ""


def _negated(test: RowTest) -> RowTest:
    return lambda row: not test(row)


def _any(tests: Sequence[RowTest]) -> RowTest:
    return tests[0] if len(tests) == 1 else lambda row: any(test(row) for test in tests)


def matching_values(terms: Sequence[Term], values: Iterable[str]) -> list[str]:
    """The values that any of the (included) terms of one key takes."""
    exact = {term.value for term in terms if term.exact}
    tests = [
        network_test(term.value) if term.key == "ip" else value_test(term)
        for term in terms
        if not term.exact or term.key == "ip"
    ]
    return [value for value in values if value in exact or any(test(value) for test in tests)]
