"""Whether an event, or a value, is what a search asks for.  No I/O here.

Patterns run on a linear-time engine: no search can hang the console.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence

import re2

from immuproxy.ledger.audit.entries import hex_digits
from immuproxy.ledger.model import Event
from immuproxy.ledger.search import TEXT, Search, Term
from immuproxy.values import parse_address

EventTest = Callable[[Event], bool]
ValueTest = Callable[[str], bool]


def value_test(term: Term) -> ValueTest:
    """A test for values of the term's key (``exclude`` is left to the caller)."""
    if term.exact:
        return term.value.__eq__
    if term.key == "repo":
        return _compiled(_path_pattern(term.value))
    return _compiled("".join(_PLAIN.get(character) or re2.escape(character) for character in term.value))


_PLAIN = {"*": ".*", "?": "."}


def _compiled(pattern: str) -> ValueTest:
    compiled = re2.compile(f"(?s){pattern}")
    return lambda value: compiled.fullmatch(value) is not None


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


def _address_test(term: Term) -> EventTest:
    wanted = ipaddress.ip_network(term.value)

    def inside(event: Event) -> bool:
        address = parse_address(event.client_address)
        return address is not None and address in wanted

    return inside


def _digest_test(term: Term) -> EventTest:
    wanted = hex_digits(term.value)
    return lambda event: any(
        hex_digits(digest).startswith(wanted) for digest in (event.digest, event.previous_digest) if digest
    )


def _text_test(term: Term) -> EventTest:
    wanted = term.value.casefold()
    return lambda event: wanted in shown_text(event)


def shown_text(event: Event) -> str:
    """All that free text is looked for in, a line each, case folded."""
    return "\n".join(
        (
            f"{event.repository}:{event.tag}",
            event.id,
            event.action,
            event.outcome,
            event.digest,
            event.previous_digest,
            event.media_type,
            " ".join(event.platforms),
            event.rule,
            event.reason,
            event.actor,
            event.client_address,
            event.user_agent,
            event.request_id,
        )
    ).casefold()


_FIELD_OF: dict[str, Callable[[Event], str]] = {
    "repo": lambda event: event.repository,
    "tag": lambda event: event.tag,
    "actor": lambda event: event.actor,
    "rule": lambda event: event.rule,
    "outcome": lambda event: event.outcome,
    "action": lambda event: event.action,
    "agent": lambda event: event.user_agent,
}


def _field_test(term: Term) -> EventTest:
    value_of, test = _FIELD_OF[term.key], value_test(term)
    return lambda event: test(value_of(event))


_TESTS: dict[str, Callable[[Term], EventTest]] = {
    "ip": _address_test,
    "digest": _digest_test,
    "id": lambda term: lambda event: term.value in (event.id, event.request_id),
    "shadow": lambda term: lambda event: event.shadow == (term.value == "yes"),
    TEXT: _text_test,
}


def event_test(search: Search) -> EventTest:
    """The whole search as one test."""
    included: dict[str, list[EventTest]] = {}
    required: list[EventTest] = []
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

    def matches(event: Event) -> bool:
        if (since is not None and event.time < since) or (until is not None and event.time >= until):
            return False
        return all(test(event) for test in required)

    return matches


def _negated(test: EventTest) -> EventTest:
    return lambda event: not test(event)


def _any(tests: Sequence[EventTest]) -> EventTest:
    return tests[0] if len(tests) == 1 else lambda event: any(test(event) for test in tests)


def matching_values(terms: Sequence[Term], values: Iterable[str]) -> list[str]:
    """The values that any of the (included) terms of one key takes."""
    exact = {term.value for term in terms if term.exact}
    tests = [
        network_test(term.value) if term.key == "ip" else value_test(term)
        for term in terms
        if not term.exact or term.key == "ip"
    ]
    return [value for value in values if value in exact or any(test(value) for test in tests)]
