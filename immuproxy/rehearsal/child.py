"""The process that reads a stranger's rules file and judges the past by it: ``python -m immuproxy.rehearsal.child``.

It has no credentials and opens nothing: it reads standard input and writes standard output, one JSON value a line.

In: ``{"source": NAME, "bytes": N}``, the N bytes of the file; then, newest first, ``["event", EVENT]``; then
``["first", REPOSITORY, TAG, MS]``; then the end.

Out: ``{"problems": [...], "more": N}`` where the file is wrong, and nothing behind it; else ``{"rules": N, "first":
BOOL}`` (whether first pushes are wanted) at once; and after the end of the input, oldest first, ``{"judged": N,
"changed": N}`` now and then, ``{"difference": {...}}`` for each verdict that changes, and ``{"done": true, ...}``.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from immuproxy.ledger.model import Event, event_from_dict
from immuproxy.rehearsal.past import needs_first_pushes
from immuproxy.rehearsal.replay import replayed
from immuproxy.rules.document import load_rules
from immuproxy.rules.model import RuleSet
from immuproxy.rules.problems import DocumentErrors, FileProblem
from immuproxy.rules.simulate import Simulation

CPU_SECONDS = 60
MEMORY = 1024 * 1024 * 1024
NICENESS = 10
SHOWN_PROBLEMS = 100
LONGEST_MESSAGE = 600
TELL_EVERY = 500

Tell = Callable[[dict[str, Any]], None]


def main() -> None:
    """Read, judge, tell."""
    _limit()
    source = sys.stdin.buffer

    def tell(value: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()

    work(source, tell)


def _limit() -> None:
    """What a hostile file may cost; the machine ends the process where it asks for more."""
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def work(source: BinaryIO, tell: Tell) -> None:
    """The conversation, over any two ends."""
    head = json.loads(source.readline())
    try:
        rules = load_rules(source.read(head["bytes"]), head["source"])
    except DocumentErrors as errors:
        shown = [_shown(problem) for problem in errors.problems[:SHOWN_PROBLEMS]]
        tell({"problems": shown, "more": len(errors.problems) - len(shown)})
        return
    tell({"rules": len(rules.rules), "first": needs_first_pushes(rules)})
    _judge(rules, source, tell)


def _judge(rules: RuleSet, source: BinaryIO, tell: Tell) -> None:
    kept: list[bytes] = []
    first: dict[tuple[str, str], int] = {}
    for line in source:
        if line.startswith(b'["event"'):
            kept.append(line)
        else:
            _, repository, tag, at = json.loads(line)
            first[repository, tag] = at
    simulation, changed = Simulation(rules), 0
    judged = 0
    for judged, recorded in enumerate(replayed(_oldest_first(kept), first), 1):
        difference = simulation.judge(recorded)
        if difference:
            changed += 1
            tell({"difference": difference.to_dict()})
        if judged % TELL_EVERY == 0:
            tell({"judged": judged, "changed": changed})
    tell({"done": True, "judged": judged, "changed": changed})


def _oldest_first(kept: list[bytes]) -> Iterator[Event]:
    """The events, each forgotten as it is taken."""
    while kept:
        yield event_from_dict(json.loads(kept.pop())[1])


def _shown(problem: FileProblem) -> dict[str, Any]:
    """A problem as JSON; what it quotes from the file may be as long as the file."""
    return {key: _cut(value) if isinstance(value, str) else value for key, value in problem.to_dict().items()}


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}..."


if __name__ == "__main__":
    main()
