"""Each answered request has its events, as many as are documented, with the outcome that its answer tells; and there is
no event without a request.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import inf

from immuproxy.ledger.model import Event
from tests.auditor.recording import NEVER_TOLD, OPEN, RELAYED, Flaw, Recording, Request, may_be_taken

SET = frozenset({"created", "overwritten", "unchanged"})
WENT_WRONG = frozenset({"failed"})
OPEN_ENDED = frozenset({"failed", "unknown"})
ENDED_DELETES = frozenset({"deleted", "missing", "refused"})

OWN_ACTIONS = frozenset({"drift", "repair", "exception", "rules"})
"""What the proxies do of themselves.  An adoption is none of these: here nothing goes past them."""

HELD = frozenset("voxdr")
"""First letters of tags that a rule holds."""


def is_held(tag: str) -> bool:
    return tag[:1] in HELD


def of_requests(events: Sequence[Event]) -> Mapping[str, Sequence[Event]]:
    """The events of each request by its name; those of the proxies and of operators under the empty one."""
    found: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        found["" if event.actor_source in {"proxy", "operator"} else event.user_agent].append(event)
    return found


def count(recording: Recording, events: Sequence[Event]) -> Iterator[str]:
    """Everything that can be said without looking into the fields."""
    told = of_requests(events)
    for event_id, times in Counter(event.id for event in events).items():
        if times > 1:
            yield f"twice: event {event_id} stands there {times} times"
    for name, found in told.items():
        if name and name not in recording.by_name:
            yield f"nobody's: nobody sent {name!r}, and there are {_shown(found)}"
    for event in told.get("", ()):
        if event.action not in OWN_ACTIONS:
            yield f"nobody's: {event.action} of {event.repository}:{event.tag} ({event.reason})"
    began = _began(events)
    for request in recording.requests:
        found = told.get(request.name, ())
        if not found and request.status == 404 and request.began.wall < began.get(request.repository, inf):
            continue  # a delete in a repository of which the ledger knew nothing leaves nothing (H96)
        yield from _of_request(recording, request, found)
    yield from _grants(recording, events)


def _began(events: Sequence[Event]) -> Mapping[str, float]:
    """When the first event of each repository was told, by the time of day."""
    first: dict[str, float] = {}
    for event in events:
        first[event.repository] = min(event.time / 1000, first.get(event.repository, inf))
    return first


def _of_request(recording: Recording, request: Request, events: Sequence[Event]) -> Iterator[str]:
    by_tag: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_tag[event.tag if event.action == request.action else f"{event.action} {event.tag}"].append(event)
    for tag in request.told_of:
        problem = _of_tag(recording, request, tag, [event.outcome for event in by_tag.pop(tag, [])])
        if problem:
            yield f"count: {_named(request)} {f'to {tag} ' if tag else ''}{problem}"
    for about, others in by_tag.items():
        if not (_took_along(request, about) and len(others) == 1 and others[0].outcome == "deleted"):
            yield f"count: {_named(request)} has {_shown(others)} of {about}"


def _took_along(request: Request, about: str) -> bool:
    """A delete by digest is told of each tag that went with it as well."""
    return request.action == "delete-manifest" and about.startswith("delete-tag ")


def _of_tag(recording: Recording, request: Request, tag: str, outcomes: Sequence[str]) -> str:
    """What is wrong with the outcomes of one request and tag; empty when nothing is."""
    if request.flaw in NEVER_TOLD:
        return f"has {list(outcomes)}, though it is never told" if outcomes else ""
    wanted, least = expected(request, tag)
    ended = [outcome for outcome in outcomes if outcome not in OPEN_ENDED]
    most = 1 + (request.seconds > recording.lease or not request.decides)
    sent = not recording.is_damaged(request) and any(map(may_be_taken, recording.own_puts(request, tag)))
    if len(outcomes) > most or len(ended) > 1:
        return f"has {list(outcomes)}, {request.status} after {request.seconds:.1f} s allows {most}"
    if len(outcomes) < max(least, sent):
        return f"has no event, answered {request.status}{' after it went to the registry' if sent else ''}"
    if outcomes and not wanted & set(outcomes):
        return f"was answered {request.status}, and is told as {list(outcomes)} and not as {sorted(wanted)}"
    if request.decides and ended and not wanted & set(ended):
        return f"was answered {request.status}, and is told as {list(outcomes)} and not as {sorted(wanted)}"
    return ""


def expected(request: Request, tag: str) -> tuple[frozenset[str], int]:
    """The outcomes that fit the answer, and how many events there are at least."""
    if request.method == "DELETE":
        return _expected_delete(request)
    if not request.decides:
        outcomes = SET | OPEN_ENDED | {"refused"} if is_held(tag) else SET | OPEN_ENDED
        return outcomes, 0
    if request.status == 201:
        return SET, 1
    if request.status == 409:
        return (frozenset({"refused"}), 1) if tag == request.refused_tag else (SET, 0)
    return _expected_failure(request, tag)


def _expected_failure(request: Request, tag: str) -> tuple[frozenset[str], int]:
    """Of a push that was answered 4xx; one to several tags ends with the first that goes wrong."""
    alone = len(request.told_of) == 1
    if request.flaw is Flaw.NONE:
        return (WENT_WRONG, 1) if alone else (SET | WENT_WRONG, 0)
    relayed = request.flaw in RELAYED and not any(map(is_held, request.told_of))
    return WENT_WRONG, int(alone or not relayed)


def _expected_delete(request: Request) -> tuple[frozenset[str], int]:
    match request.status:
        case 202:
            return frozenset({"deleted"}), 1
        case 405:
            return frozenset({"refused"}), 1
        case 400 | 404:
            return frozenset({"missing", "failed"}), 1
        case _:
            return ENDED_DELETES | OPEN_ENDED, 0


def _grants(recording: Recording, events: Sequence[Event]) -> Iterator[str]:
    granted = Counter(event.id for event in events if event.outcome == "granted")
    known = {grant.event for grant in recording.grants}
    for grant in recording.grants:
        if grant.sure and granted[grant.event] != 1:
            yield f"count: exception {grant.event} of {grant.repository}:{grant.tag} has {granted[grant.event]} events"
    for event_id in granted.keys() - known:
        yield f"nobody's: nobody granted {event_id}"
    ends = Counter((event.repository, event.tag) for event in events if event.outcome == "ended")
    begins = Counter((grant.repository, grant.tag) for grant in recording.grants)
    for where, times in ends.items():
        if times > begins[where]:
            yield f"count: {times} exceptions of {where} ended, {begins[where]} were granted"


def _named(request: Request) -> str:
    what = "unanswered" if request.status == OPEN else f"answered {request.status}"
    flaw = f" with {request.flaw}" if request.flaw else ""
    return f"{request.name} ({request.action} {request.repository} {request.reference[:24]}{flaw}, {what})"


def _shown(events: Sequence[Event]) -> str:
    return ", ".join(f"{event.action} {event.tag} {event.outcome}" for event in events)
