"""The events of one tag, one after the other: each says what the tag held before, and their order is that in which the
registry took what they tell of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import inf

from immuproxy.ledger.model import Event
from tests.auditor.counting import SET, is_held
from tests.auditor.fields import TOLERANCE
from tests.auditor.recording import Recording, Request, was_taken
from tests.invariants.world import Write

CHANGES = frozenset({"created", "overwritten", "adopted", "deleted"})


def order(recording: Recording, events: Sequence[Event]) -> Iterator[str]:
    """Stories of tags that do not hold together."""
    for (repository, tag), told in by_tag(events).items():
        name = f"{repository}:{tag}"
        if is_held(tag):
            yield from (f"{problem} ({name})" for problem in _held(recording, told))
            yield from (f"{problem} ({name})" for problem in _ends(recording, repository, tag, told))
            yield from (f"{problem} ({name})" for problem in _as_taken(recording, told))
        else:
            yield from (f"{problem} ({name})" for problem in _moving(recording, told))
            for through in _by_proxy(recording, told):
                yield from (f"{problem} ({name})" for problem in _as_taken(recording, through))


def by_tag(events: Sequence[Event]) -> Mapping[tuple[str, str], Sequence[Event]]:
    """In the order of the audit, oldest first."""
    found: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in events:
        if event.tag and event.action in {"push", "delete-tag", "adopt"}:
            found[event.repository, event.tag].append(event)
    return found


# --- tags that a rule holds: the ledger itself decides their order


def _held(recording: Recording, told: Sequence[Event]) -> Iterator[str]:
    held = ""
    before: list[tuple[float, str]] = []
    for event in told:
        match event.outcome:
            case "created" | "adopted" if held:
                yield f"previous_digest: {event.id} {event.outcome} {event.digest}, the tag held {held}"
            case "overwritten" if event.previous_digest != held or not held:
                yield f"previous_digest: {event.id} overwrote {event.previous_digest}, the tag held {held or 'nothing'}"
            case "deleted" if event.digest != held:
                yield f"previous_digest: {event.id} deleted {event.digest}, the tag held {held or 'nothing'}"
            case "unchanged" if event.digest != held:
                yield f"order: {event.id} says that {event.digest} is unchanged, the tag held {held or 'nothing'}"
            case "refused" if event.action == "push" and event.previous_digest != held:
                yield f"order: {event.id} is refused by {event.previous_digest}, the tag held {held or 'nothing'}"
            case "refused" if event.action != "push" and event.digest not in {held, *_since(recording, event, before)}:
                yield f"previous_digest: {event.id} refused by {event.digest}, which the tag did not hold then"
        if event.outcome in CHANGES:
            before.append((inf if _is_late(event) else event.time, held))
            held = "" if event.outcome == "deleted" else event.digest


def _is_late(event: Event) -> bool:
    """Told by others, with the time of the push: when the tag changed nobody knows."""
    return event.duration_ms is None and event.action != "adopt"


def _since(recording: Recording, event: Event, before: Sequence[tuple[float, str]]) -> set[str]:
    """What a tag held since a request began, besides what it holds; `before`: until when (ms) it held what."""
    request = recording.by_name.get(event.user_agent)
    began = (request.began.wall - TOLERANCE) * 1000 if request else 0.0
    return {digest for until, digest in before if until >= began}


def _ends(recording: Recording, repository: str, tag: str, told: Sequence[Event]) -> Iterator[str]:
    """What readers get when all is over is what the audit says that the tag holds."""
    last = next((event for event in reversed(told) if event.outcome in CHANGES), None)
    holds = "" if last is None or last.outcome == "deleted" else last.digest
    seen = recording.finally_held.get((repository, tag))
    if seen is not None and seen != holds:
        yield f"end: the audit ends with {holds or 'nothing'}, readers get {seen or 'nothing'}"


# --- both


def _as_taken(recording: Recording, told: Sequence[Event]) -> Iterator[str]:
    """Of two that the registry took one wholly after the other, the earlier one is told first."""
    latest, latest_event = -inf, ""
    for event in told:
        write = _taken(recording, event)
        if write is None:
            continue
        if write.ended < latest:
            yield f"order: {event.id} is told after {latest_event}, the registry took it before"
        if write.time > latest:
            latest, latest_event = write.time, event.id


def _taken(recording: Recording, event: Event) -> Write | None:
    """The one write of an event that changed its tag, where its request was answered and there is no doubt about it."""
    request = recording.by_name.get(event.user_agent)
    if request is None or request.status != 201 or event.outcome not in SET or request.seconds > recording.lease:
        return None
    own = recording.own_puts(request, event.tag)
    return own[0] if len(own) == 1 and recording.landed_in_time(own[0]) else None


def _by_proxy(recording: Recording, told: Sequence[Event]) -> Iterator[Sequence[Event]]:
    found: dict[int, list[Event]] = defaultdict(list)
    for event in told:
        request = recording.by_name.get(event.user_agent)
        if request is not None:
            found[request.proxy].append(event)
    yield from found.values()


# --- tags that may move: the registry decides their order


def _moving(recording: Recording, told: Sequence[Event]) -> Iterator[str]:
    """What was there before can have been there."""
    for event in told:
        request = recording.by_name.get(event.user_agent)
        if request is None or event.action != "push" or event.outcome not in SET:
            continue
        same = (event.digest == event.previous_digest, bool(event.previous_digest))
        if (event.outcome == "unchanged", event.outcome != "created") != same:
            yield f"previous_digest: {event.id} {event.outcome} {event.digest} over {event.previous_digest or '-'}"
        own = recording.own_puts(request, event.tag)
        if len(own) != 1:
            continue
        since = request.began.steady
        if recording.landed_in_time(own[0]):
            since = max(since, _last_through(recording, request, event.tag, own[0]))
        if not _may_hold(recording, event, since=since, until=own[0].time):
            yield (
                f"previous_digest: {event.id} of {request.name} {event.outcome} over "
                f"{event.previous_digest or 'nothing'}, which the tag did not hold then"
            )


def _last_through(recording: Recording, request: Request, tag: str, own: Write) -> float:
    """When the push before this one through the same proxy had ended at the registry, not what landed late."""
    return max(
        (
            write.ended
            for write in recording.puts_by_tag[request.repository, tag]
            if write.ended <= own.time and recording.landed_in_time(write) and _proxy(recording, write) == request.proxy
        ),
        default=0.0,
    )


def _proxy(recording: Recording, write: Write) -> int | None:
    request = recording.by_name.get(write.sender)
    return request.proxy if request else None


def _may_hold(recording: Recording, event: Event, *, since: float, until: float) -> bool:
    """Whether a moving tag may have held what is said at any moment between two; nothing, where nothing is said."""
    writes = recording.puts_by_tag[event.repository, event.tag]
    gone = recording.deletes.get(event.repository, ())
    if not event.previous_digest:
        return not any(
            write.ended <= since
            and was_taken(write)
            and (event.repository, write.digest) not in recording.damaged
            and not _may_be_gone(write, writes, gone, until)
            for write in writes
        )
    return any(
        write.digest == event.previous_digest
        and write.time <= until
        and (was_taken(write) or not write.status)
        and not any(was_taken(other) and write.ended < other.time and other.ended <= since for other in writes)
        for write in writes
    )


def _may_be_gone(write: Write, writes: Sequence[Write], gone: Sequence[Write], until: float) -> bool:
    """Deleted, or damaged by a write that a killed registry did not end (H16)."""
    unsure = any(not other.status and other.time <= until for other in writes)
    return unsure or any(delete.time <= until and delete.ended >= write.time for delete in gone)
