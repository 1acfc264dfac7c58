"""Visits every state that a protocol can come to, breadth first, so that a violation comes with its shortest story.

The larger worlds::

    python -m tests.model.explore
"""

from __future__ import annotations

import sys
import time
import typing
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from tests.model.protocol import Protocol, Role, Variant, Violation

S = typing.TypeVar("S")

OURS, THEIRS, OLD = "d1", "d2", "d0"

WORLDS: dict[str, tuple[Role, ...]] = {
    "two pushes, two reads": (Role("push", OURS), Role("push", THEIRS), Role("read"), Role("read")),
    "overwrites and reads": (
        Role("push", OURS),
        Role("push", THEIRS, may_overwrite=True),
        Role("read"),
        Role("read"),
    ),
    "pushes, a delete and a read": (Role("push", OURS), Role("push", THEIRS), Role("delete", OURS), Role("read")),
}

SHARED_LOOKS: dict[str, tuple[Role, ...]] = {
    "an overwrite, two reads that share looks": (
        Role("push", THEIRS, may_overwrite=True),
        Role("read"),
        Role("read"),
    ),
    "overwrites and a read with a look": (Role("push", OURS), Role("push", THEIRS, may_overwrite=True), Role("read")),
}
"""Smaller, as each look multiplies the states."""


class Machine(typing.Protocol[S]):
    """What can be explored."""

    def start(self, upstream: str | None = None) -> S:
        """The first state."""

    def steps(self, state: S) -> Iterator[tuple[str, S]]:
        """Everything that may happen next; raises `Violation` where that breaks a promise."""


@dataclass(frozen=True)
class Outcome:
    """How many states there are, what is broken, and how it came to that."""

    states: int
    broken: str = ""
    story: tuple[str, ...] = ()


def explore(protocol: Machine[S], upstream: str | None = None) -> Outcome:
    """Visit all states from an empty ledger; stop at the first violation."""
    start = protocol.start(upstream)
    came_from: dict[S, tuple[S, str] | None] = {start: None}
    waiting = deque([start])
    while waiting:
        state = waiting.popleft()
        try:
            for label, following in protocol.steps(state):
                if following not in came_from:
                    came_from[following] = (state, label)
                    waiting.append(following)
        except Violation as violation:
            return Outcome(len(came_from), str(violation), _story(came_from, state))
    return Outcome(len(came_from))


def _story(came_from: dict[S, tuple[S, str] | None], state: S) -> tuple[str, ...]:
    told: list[str] = []
    while step := came_from[state]:
        state, label = step
        told.append(label)
    return tuple(reversed(told))


def main() -> int:
    """Explore the larger worlds; exit status 1 when one of them breaks a promise."""
    status = 0
    explored = [(name, Protocol(roles)) for name, roles in WORLDS.items()]
    explored += [(name, Protocol(roles, variant=Variant(shared_looks=True))) for name, roles in SHARED_LOOKS.items()]
    for name, protocol in explored:
        for upstream in (None, OLD):
            began = time.monotonic()
            found = explore(protocol, upstream)
            seconds = time.monotonic() - began
            predates = "predates the ledger" if upstream else "new tag"
            sys.stdout.write(f"{name}, {predates}: {found.states} states, {seconds:.0f} s, {found.broken or 'holds'}\n")
            sys.stdout.flush()
            for step in found.story:
                sys.stdout.write(f"    {step}\n")
            status |= bool(found.broken)
    return status


if __name__ == "__main__":
    sys.exit(main())
