"""Tags that a rule or an exception lets change, and tags that may be deleted: whether what clients saw fits together.

Pure, and nearly linear in the length of the history.  The audit says in which order a tag came to hold what; the
history is right when every answer can be put at a place in that order, and no answer is older than one that had been
given before its request began.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

from tests.invariants.audit_checker import BEGINNINGS
from tests.invariants.checker import (
    MISSING,
    OK,
    REFUSED,
    UNKNOWN,
    Kind,
    Operation,
    Recorded,
    by_tag,
    named,
    seen_at,
    value_of,
)


@dataclass(frozen=True, slots=True)
class Grant:
    """An exception: from when to when a tag might be overwritten, by the history's clock, at the most."""

    tag: str
    began: float
    ends: float


def overwritten_violations(history: Iterable[Operation], events: Iterable[Recorded]) -> list[str]:
    """Of tags whose rule or exception allows overwrites: readers see the old digest until the commit and the new one
    after it, never anything else (I1 to I4 as they read for such tags), and each change is recorded.
    """
    chains: dict[str, list[Recorded]] = defaultdict(list)
    for event in events:
        if event.outcome in BEGINNINGS | {"overwritten"}:
            chains[event.tag].append(event)
    return [
        f"{tag}: {problem}"
        for tag, operations in by_tag(history).items()
        for problem in (*_broken(chains[tag]), *_out_of_order(operations, chains[tag]))
    ]


def last_of(events: Iterable[Recorded]) -> dict[str, str]:
    """What each tag holds in the end."""
    changes = BEGINNINGS | {"overwritten"}
    return {event.tag: event.digest for event in events if event.outcome in changes}


def _broken(chain: Sequence[Recorded]) -> Iterator[str]:
    """Each overwrite says what was there before, and that is what the audit had said of it."""
    held = ""
    for event in chain:
        begins = event.outcome in BEGINNINGS
        if begins != (not held) or (not begins and event.previous != held):
            yield f"I10: {event.outcome} of {event.digest} over {event.previous or 'nothing'}, the tag held {held}"
        held = event.digest


def _out_of_order(operations: Sequence[Operation], chain: Sequence[Recorded]) -> Iterator[str]:
    """Every answer gets the first place in the chain that it can have; that leaves most room to the later ones."""
    earliest = _earliest(operations, chain)
    running: list[tuple[float, int]] = []
    floor = -1
    for operation in sorted(operations, key=lambda operation: operation.began):
        while running and running[0][0] < operation.began:
            floor = max(floor, heappop(running)[1])
        told = named(operation)
        if operation.answer == MISSING and floor >= 0:
            yield f"I2: {operation.name} found nothing after {chain[floor].digest} had been seen"
        if not told:
            continue
        place = next((at for at in range(max(floor, 0), len(chain)) if chain[at].digest == told), None)
        if place is None:
            yield f"I1: {operation.name} was answered with {told} after {chain[floor].digest if chain else 'nothing'}"
            continue
        if operation.ended < earliest[place]:
            yield f"I1: {operation.name} was answered with {told} before anybody had begun to write that"
        if operation.answer == REFUSED and operation.digest == told:
            yield f"I4: {operation.name} was refused although it pushed what the tag holds"
        heappush(running, (operation.ended, place))


def _earliest(operations: Sequence[Operation], chain: Sequence[Recorded]) -> list[float]:
    """For each place of the chain the time before which nobody can have seen it."""
    began: dict[str, float] = {}
    for operation in operations:
        if operation.kind in {Kind.PUSH, Kind.BYPASS}:
            began[operation.digest] = min(operation.began, began.get(operation.digest, inf))
    times: list[float] = []
    for event in chain:
        times.append(max(began.get(event.digest, inf), times[-1] if times else 0.0))
    return times


def ungranted(history: Iterable[Operation], events: Iterable[Recorded], grants: Iterable[Grant]) -> Iterator[str]:
    """Overwrites for which no exception was in force at any moment between their request and its end.

    By the history's own clock: an event has the time of day of Redis, and a machine may set that while a soak runs.
    """
    asked = {(operation.name, operation.tag): operation for operation in history}
    by_name: dict[str, list[Grant]] = defaultdict(list)
    for grant in grants:
        by_name[grant.tag].append(grant)
    for event in events:
        operation = asked.get((event.operation, event.tag))
        if event.outcome == "overwritten" and operation:
            ended = inf if operation.answer == UNKNOWN else operation.ended
            if not any(grant.began <= ended and grant.ends >= operation.began for grant in by_name[event.tag]):
                yield f"{event.tag}: {event.operation} overwrote it without a rule or an exception"


def mortal_violations(history: Iterable[Operation]) -> list[str]:
    """Of tags that may be deleted and whose names are never used again: one digest, then nothing for ever."""
    return [f"{tag}: {problem}" for tag, operations in by_tag(history).items() for problem in _of_mortal(operations)]


def _of_mortal(operations: Sequence[Operation]) -> Iterator[str]:
    value = value_of(operations)
    since = seen_at(operations, value) if value else inf
    deletes = [operation for operation in operations if _may_delete(operation, value)]
    died = min(
        (operation.ended for operation in operations if operation.began > since and _shows_death(operation, value)),
        default=inf,
    )
    for operation in operations:
        told = named(operation)
        if told not in {"", value}:
            yield f"I1: {operation.name} was answered with {told}, the tag held {value}"
        if told and operation.began > died:
            yield f"{operation.name} was answered with {told} after that had been deleted"
        deleted = any(delete.began < operation.ended for delete in deletes)
        if operation.answer == MISSING and operation.began > since and not deleted:
            yield f"I2: {operation.name} found nothing after {value} had been seen, and nobody had deleted it"


def _may_delete(operation: Operation, value: str) -> bool:
    return operation.kind is Kind.DELETE and operation.digest == value


def _shows_death(operation: Operation, value: str) -> bool:
    return operation.answer == MISSING or (_may_delete(operation, value) and operation.answer == OK)


def is_dead(operations: Sequence[Operation], value: str) -> bool:
    """Whether somebody was told that the tag is gone, after it had been seen."""
    since = seen_at(operations, value)
    return any(operation.began > since and _shows_death(operation, value) for operation in operations)
