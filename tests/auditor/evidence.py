"""Everything that explains a violation: what was sent to its tags, what the registry got, what is told, in one order of
time.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from immuproxy.ledger.model import Event
from tests.auditor.recording import Recording
from tests.invariants.world import Write

Place = tuple[str, str]
"""A repository, and a tag or the digest that a request or write names."""

Faults = Sequence[tuple[float, str]]
"""When (steady clock) what was disturbed."""

_WORD = re.compile(r"[\w.:/-]+")


def places(violation: str, recording: Recording, events: Sequence[Event]) -> set[Place]:
    """The tags of the requests and events that a violation names, and those that it names itself."""
    words = {word.strip(":.,") for word in _WORD.findall(violation)}
    named = [request for name, request in recording.by_name.items() if name.split()[-1] in words]
    found = {(request.repository, tag or request.reference) for request in named for tag in request.told_of}
    found |= {(event.repository, event.tag or event.digest) for event in events if event.id in words}
    tags = {(write.repository, write.reference) for write in recording.writes}
    return found | {place for place in tags if ":".join(place) in words}


def evidence(
    violation: str, recording: Recording, events: Sequence[Event], faults: Faults, shown: Mapping[Place, str]
) -> Iterator[str]:
    """Lines, each with its time in seconds since the first request; ``shown``: what the registry shows in the end."""
    wanted = places(violation, recording, events)
    for place in sorted(wanted):
        yield f"{':'.join(place)}: the registry shows {shown.get(place, '?')}, readers got {_got(recording, place)}"
    lines = [*_requests(recording, wanted), *_writes(recording.writes, wanted), *_told(recording, events, wanted)]
    if lines:
        first, last = min(lines)[0], max(lines)[0]
        lines += [(time, f"fault: {what}") for time, what in faults if first - 10 <= time <= last + 10]
    origin = recording.requests[0].began.steady if recording.requests else 0.0
    for time, line in sorted(lines):
        yield f"{time - origin:9.3f} {line}"


def _got(recording: Recording, place: Place) -> str:
    return recording.finally_held.get(place, "?") or "nothing"


def _requests(recording: Recording, wanted: set[Place]) -> Iterator[tuple[float, str]]:
    for request in recording.requests:
        if any((request.repository, tag or request.reference) in wanted for tag in request.told_of):
            yield request.began.steady, f"request: {asdict(request)}"


def _writes(writes: Sequence[Write], wanted: set[Place]) -> Iterator[tuple[float, str]]:
    for write in writes:
        if (write.repository, write.reference) in wanted:
            yield write.time, f"to the registry, {write.ended - write.time:.3f} s: {asdict(write)}"


def _told(recording: Recording, events: Sequence[Event], wanted: set[Place]) -> Iterator[tuple[float, str]]:
    """By the time of day when the first request began; in the audit's own order where that is the same."""
    began = recording.requests[0].began if recording.requests else None
    ahead = began.wall - began.steady if began else 0.0
    for number, event in enumerate(events):
        if (event.repository, event.tag or event.digest) in wanted:
            yield event.time / 1000 - ahead, f"event {number:06}: {event.to_dict()}"
