"""What is told of a push or a delete is possible, given what its proxy sent to the registry and what that answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from immuproxy.ledger.model import Event
from tests.auditor.counting import SET, is_held
from tests.auditor.recording import Recording, Request, may_be_taken, was_taken


def stories(recording: Recording, events: Sequence[Event]) -> Iterator[str]:
    """Events that tell what was not."""
    finished = {
        (event.repository, event.tag, event.digest) for event in events if event.outcome in {"created", "overwritten"}
    }
    for event in events:
        request = recording.by_name.get(event.user_agent)
        if request is None or event.action != request.action:
            continue
        if request.method == "DELETE":
            problem = _of_delete(recording, request, event)
        elif is_held(event.tag):
            problem = _of_held(recording, request, event, finished)
        else:
            problem = _of_free(recording, request, event)
        if problem:
            yield f"story: {request.name} to {event.tag or request.reference} is told as {event.outcome}, {problem}"


def _of_held(recording: Recording, request: Request, event: Event, finished: set[tuple[str, str, str]]) -> str:
    """A tag that a rule holds: whoever pushes the same content may finish what another sent."""
    own = recording.own_puts(request, event.tag)
    everybodys = recording.puts_by_tag.get((event.repository, event.tag), ())
    sent = [write for write in everybodys if write.digest == event.digest]
    match event.outcome:
        case "created" | "overwritten" if not any(map(may_be_taken, sent)):
            return "and its content never went to the registry under this tag"
        case "failed" if any(map(was_taken, own)) and (event.repository, event.tag, event.digest) not in finished:
            if recording.is_damaged(request):
                return ""  # nobody can pull it, so the tag does not hold it
            return "and the registry had taken it"
        case "refused" if any(map(was_taken, own)) and request.seconds <= recording.lease and request.decides:
            return "and the registry had taken it"
    return ""


def _of_free(recording: Recording, request: Request, event: Event) -> str:
    """A moving tag, or a manifest by digest: each push is sent once, and nobody sends it for another.

    What changes nothing may have come by another.
    """
    own = recording.own_puts(request, event.tag)
    changes = event.tag and event.outcome in {"created", "overwritten"}
    if changes and not any(map(may_be_taken, own)):
        return "and it never went to the registry"
    if event.outcome in SET and not _anybodys(recording, event):
        return "and nobody sent it to the registry"
    if event.outcome == "failed" and any(map(was_taken, own)):
        return "and the registry had taken it"
    return ""


def _anybodys(recording: Recording, event: Event) -> bool:
    return any(
        write.method == "PUT"
        and (write.repository, write.digest) == (event.repository, event.digest)
        and (write.reference == event.tag or not event.tag)
        and may_be_taken(write)
        for write in recording.writes_of(event.digest)
    )


def _of_delete(recording: Recording, request: Request, event: Event) -> str:
    own = [write for write in recording.deletes.get(request.repository, ()) if write.sender == request.name]
    sent = [write for write in own if write.reference == request.reference]
    if event.outcome == "deleted" and not any(map(may_be_taken, sent)):
        return "and it never went to the registry, or was not carried out"
    if event.outcome in {"refused", "missing", "failed"} and any(map(was_taken, sent)):
        return "and the registry had carried it out"
    return ""
