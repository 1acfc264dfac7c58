"""What happened to the tags that a violation names, in the order of time: without it a broken promise of an hour ago
cannot be understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from tests.invariants.checker import Operation, Recorded
from tests.invariants.world import World

_TAG = re.compile(r"\bteam/\w+:\w+")
MOST_LINES = 400

BEFORE = 30.0
"""Seconds of faults before the first request: who follows whom comes from there."""


def stories(
    problems: Iterable[str], world: World, history: Sequence[Operation], events: Sequence[Recorded]
) -> Iterator[str]:
    """For each tag that the problems name: its requests, its events, what reached the registry, and all faults."""
    for tag in sorted({tag for problem in problems for tag in _TAG.findall(problem)}):
        lines = sorted(_lines(tag, world, history, events))
        yield f"the story of {tag}:"
        yield from (f"    {at:10.3f} {line}" for at, line in lines[:MOST_LINES])


def _lines(
    tag: str, world: World, history: Sequence[Operation], events: Sequence[Recorded]
) -> Iterator[tuple[float, str]]:
    of_tag = [operation for operation in history if operation.tag == tag]
    if not of_tag:
        return
    began, ended = min(operation.began for operation in of_tag), max(operation.ended for operation in of_tag)
    for operation in of_tag:
        took = operation.ended - operation.began
        seen = f"{_short(operation.digest)} {operation.answer} {_short(operation.held)}".strip()
        yield operation.began - began, f"{operation.name} ({took:.3f} s): {seen}"
    for event in events:
        if event.tag == tag:
            what = f"{event.outcome} {_short(event.digest)} over {_short(event.previous) or 'nothing'}"
            yield event.time - began, f"EVENT {what}, by {event.operation or 'a proxy'}: {event.reason}"
    for write in world.writes:
        if f"{write.repository}:{write.reference}" == tag:
            yield write.time - began, f"-> registry {write.method} {_short(write.digest)} of {write.sender}"
    for at, fault in world.faults:
        if began - BEFORE <= at <= ended:
            yield at - began, f"FAULT {fault}"


def _short(digest: str) -> str:
    return digest.partition(":")[2][:8]
