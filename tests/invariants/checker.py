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
from math import inf


class Kind(StrEnum):
    """What was asked for.  BYPASS: a write that went round the proxy.  DELETE: of the manifest, by its digest."""

    PUSH = "push"
    READ = "read"
    BYPASS = "bypass"
    DELETE = "delete"


OK, MISSING, REFUSED, DECLINED, UNKNOWN = "ok", "missing", "refused", "declined", "unknown"
"""Answers: 2xx; 404 of a read; 409 of a push; 409 of a push to several tags, for those that were not the reason, and
405 of a delete; and everything else, which decides nothing."""


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
    """One event of the audit, as far as it can be held against the history.

    `operation`: the push that it tells of; `previous`: what the tag held before; `time`: by the history's clock;
    `late`: told by others than its own proxy; `reason`: in its own words, for people.
    """

    event_id: str
    tag: str
    action: str
    outcome: str
    digest: str
    operation: str
    previous: str = ""
    time: float = 0.0
    late: bool = False
    reason: str = ""


def violations(history: Iterable[Operation]) -> list[str]:
    """Every promise that the history breaks, in words; empty when it breaks none."""
    return [f"{tag}: {problem}" for tag, operations in by_tag(history).items() for problem in _of_one_tag(operations)]


def by_tag(history: Iterable[Operation]) -> dict[str, list[Operation]]:
    """The operations of each tag, in the order of the history."""
    found: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        found[operation.tag].append(operation)
    return dict(found)


def value_of(operations: Iterable[Operation]) -> str:
    """The digest that the tag was first seen to hold; empty when nobody saw any."""
    seen = [operation for operation in operations if named(operation)]
    return named(min(seen, key=lambda operation: operation.ended)) if seen else ""


def seen_at(operations: Iterable[Operation], value: str) -> float:
    """When somebody had first been told that the tag holds `value`; infinity when nobody was."""
    return min((operation.ended for operation in operations if named(operation) == value), default=inf)


def named(operation: Operation) -> str:
    """The digest that an answer says the tag holds."""
    if operation.kind not in {Kind.PUSH, Kind.READ}:
        return ""
    return {OK: operation.digest, REFUSED: operation.held}.get(operation.answer, "")


def _of_one_tag(operations: Sequence[Operation]) -> Iterator[str]:
    value = value_of(operations)
    if not value:
        return
    since = seen_at(operations, value)
    written = [operation for operation in operations if _may_write(operation, value)]
    if not any(operation.began <= since for operation in written):
        yield f"nobody had begun to write {value} when it was first seen"
    for operation in operations:
        yield from _of_one_operation(operation, value, since)


def _may_write(operation: Operation, value: str) -> bool:
    writes = operation.kind in {Kind.PUSH, Kind.BYPASS}
    return writes and operation.digest == value and operation.answer not in {REFUSED, DECLINED}


def _of_one_operation(operation: Operation, value: str, since: float) -> Iterator[str]:
    told = named(operation)
    if told not in {"", value}:
        which = "I3" if operation.kind is Kind.PUSH else "I1"
        yield f"{which}: {operation.name} was answered with {told}, the tag holds {value}"
    if operation.answer == MISSING and operation.began > since:
        yield f"I2: {operation.name} found nothing after {value} had been seen"
    if operation.answer == REFUSED and operation.digest == value:
        yield f"I4: {operation.name} was refused although it pushed what the tag holds"
