"""Each field of each event, held against the request that it tells of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from immuproxy.ledger.model import Event
from tests.auditor.counting import is_held
from tests.auditor.recording import NOT_READ, RELAYED, Flaw, Recording, Request

TOLERANCE = 0.1
"""Seconds by which Redis and the auditor may differ: they share a clock, and the audit counts in milliseconds."""

RULES = {"v": "default", "r": "reused", "o": "overwritten", "d": "mortal", "m": "moving", "x": "excepted"}
"""The rule of a tag, by its first letter."""

HELPED = "recorded after the push was interrupted"
"""Whoever finishes what another has sent does not know when that began."""


def fields(recording: Recording, events: Sequence[Event]) -> Iterator[str]:
    """What is not as it was sent."""
    for event in events:
        request = recording.by_name.get(event.user_agent)
        if request is not None and event.actor_source not in {"proxy", "operator"}:
            for name, (told, seen) in differing(recording, request, event).items():
                yield f"{name}: {event.id} of {request.name} says {told!r}, it was {seen!r}"
            yield from _times(recording, request, event)
    yield from _request_ids(recording, events)


def differing(recording: Recording, request: Request, event: Event) -> Mapping[str, tuple[Any, Any]]:
    """The fields that tell something else than what was sent: what they tell, and what was."""
    sender = request.sender
    seen: dict[str, Any] = {
        "repository": request.repository,
        "actor": sender.actor,
        "actor_source": sender.actor_source,
        "actor_confirmed": sender.confirmed,
        "client_address": sender.address,
    }
    if request.request_id:
        seen["request_id"] = request.request_id
    if event.action == request.action:
        if event.tag not in request.told_of:
            seen["tag"] = request.told_of
        seen |= _of_content(recording, request, event)
        if event.tag and event.outcome != "refused":
            seen["rule"] = RULES[event.tag[0]]
        if event.outcome == "refused" and request.status in {405, 409}:
            seen |= _of_refusal(request)
    told = event.to_dict() | {"platforms": event.platforms}
    return {name: (told[name], value) for name, value in seen.items() if told[name] != value}


def _of_content(recording: Recording, request: Request, event: Event) -> dict[str, Any]:
    content = request.content
    if request.method == "DELETE":
        return {} if request.tags else {"digest": request.reference}
    if content is None or request.flaw in NOT_READ:
        return {"digest": ""}
    seen: dict[str, Any] = {"digest": content.digest}
    if request.flaw is not Flaw.NONE and not (request.flaw in RELAYED and not is_held(event.tag)):
        return seen
    seen |= {"size": content.size, "media_type": content.media_type, "platforms": content.platforms}
    if not event.platforms and not recording.must_name_platform(request):
        del seen["platforms"]
    return seen


def _of_refusal(request: Request) -> dict[str, Any]:
    """What the answer said of the refusal is what the audit says."""
    detail = request.detail
    seen = {"id": detail.get("event"), "rule": detail.get("rule") or ""}
    if request.status == 409:
        seen["previous_digest"] = detail.get("current_digest") or ""
        seen["digest"] = detail.get("pushed_digest")
    return seen


def _times(recording: Recording, request: Request, event: Event) -> Iterator[str]:
    """Between begin and end of its request, by the time of day; not where somebody set that meanwhile."""
    if abs(_ahead(request)) > TOLERANCE:
        return
    at, began, ended = event.time / 1000, request.began.wall, request.ended.wall
    by_others = event.outcome in {"failed", "unknown"} and request.seconds > recording.lease
    by_itself = request.decides and not by_others
    if event.outcome == "unknown" and not by_itself:
        ended += recording.lease  # told late, it has the time of the push, which goes on when its client has gone
    known = by_itself or event.outcome == "unknown"
    if at < began - TOLERANCE or (known and at > ended + TOLERANCE):
        yield f"time: {event.id} of {request.name} is of {at:.3f}, the request lasted from {began:.3f} to {ended:.3f}"
    if not by_itself or event.action != request.action:
        return
    if event.duration_ms is None and HELPED not in event.reason:
        yield f"duration_ms: {event.id} of {request.name} says nothing"
    if event.duration_ms is not None and not 0 <= event.duration_ms <= 1000 * (request.seconds + TOLERANCE):
        yield f"duration_ms: {event.id} says {event.duration_ms}, {request.name} took {request.seconds:.3f} s"


def _ahead(request: Request) -> float:
    """By how much the time of day was set in the middle of the request."""
    return (request.ended.wall - request.began.wall) - request.seconds


def _request_ids(recording: Recording, events: Sequence[Event]) -> Iterator[str]:
    """No two requests have one id, and no request has two."""
    answered = Counter(request.request_id for request in recording.requests if request.request_id)
    for request_id, times in answered.items():
        if times > 1:
            yield f"request_id: {request_id} was given to {times} requests"
    first: dict[str, str] = {}
    for event in events:
        if event.user_agent in recording.by_name:
            known = first.setdefault(event.user_agent, event.request_id)
            if known != event.request_id:
                yield f"request_id: events of {event.user_agent} have {known} and {event.request_id}"
