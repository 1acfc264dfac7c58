"""The search of docs/audit.md, written from that page alone: every event is asked every condition.  Slow, and plain."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from immuproxy.audit.search import Search, Term
from immuproxy.ledger.model import Event

PLAIN = {
    "repo": "repository",
    "tag": "tag",
    "actor": "actor",
    "rule": "rule",
    "outcome": "outcome",
    "action": "action",
    "agent": "user_agent",
}
SHOWN = (
    "id",
    "action",
    "outcome",
    "repository",
    "tag",
    "digest",
    "previous_digest",
    "media_type",
    "rule",
    "reason",
    "actor",
    "client_address",
    "user_agent",
    "request_id",
)


def glob(pattern: str, *, path: bool) -> re.Pattern[str]:
    wild = {"*": "[^/]*" if path else ".*", "?": "[^/]" if path else "."}
    pieces = re.split(r"((?:(?<=/)|^)\*\*/|\*\*|[*?])" if path else r"([*?])", pattern)
    deep = {"**/": "(?:.*/)?", "**": ".*"}
    return re.compile("".join((deep if path else {}).get(x) or wild.get(x) or re.escape(x) for x in pieces), re.DOTALL)


def is_like(term: Term, value: str) -> bool:
    if term.literal:
        return value == term.value
    return glob(term.value, path=term.key == "repo").fullmatch(value) is not None


def address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """IPv4 inside IPv6 is IPv4."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


def is_inside(wanted: str, text: str) -> bool:
    found, network = address(text), ipaddress.ip_network(wanted)
    if found is None:
        return False
    if isinstance(network, ipaddress.IPv6Network) and isinstance(found, ipaddress.IPv4Address):
        whole = ipaddress.IPv6Network("::ffff:0:0/96")
        inside = ipaddress.IPv6Address(f"::ffff:{found}")
        return network.subnet_of(whole) and inside in network
    return found in network


def occurs(text: str, event: Event) -> bool:
    fields = [str(getattr(event, name)) for name in SHOWN]
    fields += [" ".join(event.platforms), f"{event.repository}:{event.tag}"]
    return any(text.casefold() in field.casefold() for field in fields)


def holds(term: Term, event: Event) -> bool:
    match term.key:
        case "text":
            return occurs(term.value, event)
        case "digest":
            return any(digest.startswith(term.value) for digest in (event.digest, event.previous_digest))
        case "id":
            return term.value in {event.id, event.request_id}
        case "ip":
            return is_inside(term.value, event.client_address)
        case "shadow":
            return event.shadow == (term.value == "yes")
        case key:
            return is_like(term, getattr(event, PLAIN[key]))


def matches(search: Search, event: Event) -> bool:
    wanted: dict[str, bool] = {}
    for term in search.terms:
        if term.exclude:
            if holds(term, event):
                return False
        elif term.key == "text":
            if not holds(term, event):
                return False
        else:
            wanted[term.key] = wanted.get(term.key, False) or holds(term, event)
    since = search.since is None or event.time >= search.since.at
    until = search.until is None or event.time < search.until.at
    return since and until and all(wanted.values())


def found(searches: Sequence[Search], newest_first: Sequence[Event]) -> list[str]:
    return [event.id for event in newest_first if all(matches(search, event) for search in searches)]
