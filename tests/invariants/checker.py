"""Whether a history of pushes and reads is one of write-once tags.  Pure, and linear in the length of the history.

A tag that nothing may overwrite is a register that is set once.  So its whole history is right when there is one
digest D such that

- I1  every read that succeeded gave D, and I3 every push that was answered 201 was of D;
- I2  nothing that began after the first answer which named D was told that there is no such tag;
- I4  a push was refused because of the tag only when it was of something else than D, and D was there in time;
- and D was not made up: somebody had begun to write it before it was first seen.

An operation without an answer (its client hung up, or its proxy died) may have happened at any time after it began, or
not at all; it proves nothing and excuses nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What was asked for.  BYPASS: a write that went round the proxy."""

    PUSH = "push"
    READ = "read"
    BYPASS = "bypass"


OK, MISSING, REFUSED, UNKNOWN = "ok", "missing", "refused", "unknown"
"""Answers: 2xx; 404 of a read; 409 of a push; and everything else, which decides nothing."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One request of one client.  Times are of one clock, in seconds.

    `digest`: what was pushed, or what a read gave.  `held`: the digest that a refusal named.  `name` is unique.
    """

    name: str
    kind: Kind
    tag: str
    began: float
    ended: float
    answer: str
    digest: str = ""
    held: str = ""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One event of the audit, as far as it can be held against the history.  `operation`: the push that it tells of."""

    event_id: str
    tag: str
    action: str
    outcome: str
    digest: str
    operation: str


def violations(history: Sequence[Operation]) -> list[str]:
    """Every promise that the history breaks, in words; empty when it breaks none."""
    by_tag: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_tag[operation.tag].append(operation)
    return [f"{tag}: {problem}" for tag, operations in by_tag.items() for problem in _of_one_tag(operations)]


def value_of(operations: Iterable[Operation]) -> str:
    """The digest that the tag was first seen to hold; empty when nobody saw any."""
    seen = [operation for operation in operations if _names(operation)]
    return _names(min(seen, key=lambda operation: operation.ended)) if seen else ""


def _names(operation: Operation) -> str:
    """The digest that an answer says the tag holds."""
    if operation.kind is Kind.BYPASS:
        return ""
    return {OK: operation.digest, REFUSED: operation.held}.get(operation.answer, "")


def _of_one_tag(operations: Sequence[Operation]) -> Iterator[str]:
    value = value_of(operations)
    if not value:
        return
    seen_at = min(operation.ended for operation in operations if _names(operation) == value)
    written = [operation for operation in operations if _may_write(operation, value)]
    if not any(operation.began <= seen_at for operation in written):
        yield f"nobody had begun to write {value} when it was first seen"
    for operation in operations:
        yield from _of_one_operation(operation, value, seen_at)


def _may_write(operation: Operation, value: str) -> bool:
    return operation.kind is not Kind.READ and operation.digest == value and operation.answer != REFUSED


def _of_one_operation(operation: Operation, value: str, seen_at: float) -> Iterator[str]:
    named = _names(operation)
    if named not in {"", value}:
        which = "I3" if operation.kind is Kind.PUSH else "I1"
        yield f"{which}: {operation.name} was answered with {named}, the tag holds {value}"
    if operation.answer == MISSING and operation.began > seen_at:
        yield f"I2: {operation.name} found nothing after {value} had been seen"
    if operation.answer == REFUSED and operation.digest == value:
        yield f"I4: {operation.name} was refused although it pushed what the tag holds"


def audit_violations(history: Sequence[Operation], events: Sequence[Recorded]) -> list[str]:
    """I10: every answered push has its one event, no event is there twice, and each tag came to be exactly once.

    A push that was cut off and taken over by another may have two: that it failed, and how it ended after all.
    """
    by_operation: dict[str, list[str]] = defaultdict(list)
    ids: set[str] = set()
    problems: list[str] = []
    for event in events:
        by_operation[event.operation].append(event.outcome)
        if event.event_id in ids:
            problems.append(f"I10: event {event.event_id} of {event.tag} was written twice")
        ids.add(event.event_id)
    problems += [problem for operation in history for problem in _untold(operation, by_operation[operation.name])]
    return problems + list(_beginnings(history, events))


TOLD = {OK: {"created", "unchanged"}, REFUSED: {"refused"}}


def _untold(operation: Operation, outcomes: Sequence[str]) -> Iterator[str]:
    if operation.kind is not Kind.PUSH:
        return
    expected = TOLD.get(operation.answer)
    ended = [outcome for outcome in outcomes if outcome != "failed"]
    if expected is not None and (len(ended) != 1 or ended[0] not in expected):
        yield f"I10: {operation.name} was answered {operation.answer}, the audit says {outcomes}"
    if len(ended) > 1 or len(outcomes) > MOST_EVENTS:
        yield f"I10: {operation.name} has the events {outcomes}"


MOST_EVENTS = 3


def _beginnings(history: Sequence[Operation], events: Sequence[Recorded]) -> Iterator[str]:
    """One `created` or `adopted` for each tag that holds something."""
    began: dict[str, list[str]] = defaultdict(list)
    for event in events:
        if event.tag and event.outcome in {"created", "adopted"}:
            began[event.tag].append(event.digest)
    by_tag: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_tag[operation.tag].append(operation)
    for tag, operations in by_tag.items():
        value = value_of(operations)
        if value and began[tag] != [value]:
            yield f"I10: {tag} holds {value}, the audit says that it came to hold {began[tag]}"
