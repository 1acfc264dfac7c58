"""Whether the audit tells what the clients saw (I10).  Pure, and linear in the length of history and audit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence

from tests.invariants.checker import OK, REFUSED, Kind, Operation, Recorded, by_tag, value_of

TOLD = {OK: {"created", "unchanged", "overwritten"}, REFUSED: {"refused"}}

BEGINNINGS = frozenset({"created", "adopted"})

STORED = frozenset({"created", "overwritten"})

MOST_EVENTS = 3


def audit_violations(history: Iterable[Operation], events: Iterable[Recorded]) -> list[str]:
    """I10: every answered push has its one event for each of its tags, and no event is there twice.

    A push that was cut off and taken over by another, or given up by the sweep, may have two: that it failed or how it
    ended is unknown, and then how it ended after all.
    """
    outcomes: dict[tuple[str, str], list[str]] = defaultdict(list)
    ids: set[str] = set()
    problems: list[str] = []
    for event in events:
        outcomes[event.operation, event.tag].append(event.outcome)
        if event.event_id in ids:
            problems.append(f"I10: event {event.event_id} of {event.tag} was written twice")
        ids.add(event.event_id)
    pushes = (operation for operation in history if operation.kind is Kind.PUSH)
    return problems + [problem for push in pushes for problem in _untold(push, outcomes.get((push.name, push.tag), []))]


def _untold(push: Operation, outcomes: Sequence[str]) -> Iterator[str]:
    expected = TOLD.get(push.answer)
    ended = [outcome for outcome in outcomes if outcome not in {"failed", "unknown"}]
    if expected is not None and (len(ended) != 1 or ended[0] not in expected):
        yield f"I10: {push.name} to {push.tag} was answered {push.answer}, the audit says {outcomes}"
    if len(ended) > 1 or len(outcomes) > MOST_EVENTS:
        yield f"I10: {push.name} to {push.tag} has the events {outcomes}"
    if ended and "unknown" in outcomes[outcomes.index(ended[0]) :]:
        yield f"I10: {push.name} to {push.tag} was told as unknown after it had been told as {ended[0]}"


def moving_violations(
    history: Iterable[Operation],
    events: Iterable[Recorded],
    sent: Collection[tuple[str, str]],
    stored: Collection[tuple[str, str]],
) -> Iterator[str]:
    """H114, of tags that may move: what is told of a push is what became of it, or that this is unknown.

    ``sent``: the pushes, by name and tag, whose PUT went to the registry, ``stored`` those that it answered 201.  What
    a push finds under its tag itself, and what goes past the proxies, may be somebody else's.
    """
    outcomes: dict[tuple[str, str], set[str]] = defaultdict(set)
    concluded: set[tuple[str, str]] = set()
    history = list(history)
    bypassed = {(operation.tag, operation.digest) for operation in history if operation.kind is Kind.BYPASS}
    for event in events:
        outcomes[event.operation, event.tag].add(event.outcome)
        if event.late and event.outcome in STORED and (event.tag, event.digest) not in bypassed:
            concluded.add((event.operation, event.tag))
    for push in history:
        place = push.name, push.tag
        if push.kind is not Kind.PUSH:
            continue
        if place in concluded and place not in sent:
            yield f"H114: {push.name} to {push.tag} is told as stored, and never went to the registry"
        if outcomes[place] == {"failed"} and place in stored:
            yield f"H114: {push.name} to {push.tag} is told as failed, and the registry had stored it"


def beginnings(history: Iterable[Operation], events: Iterable[Recorded]) -> Iterator[str]:
    """I10: one `created` or `adopted` for each write-once tag that holds something."""
    began: dict[str, list[str]] = defaultdict(list)
    for event in events:
        if event.outcome in BEGINNINGS:
            began[event.tag].append(event.digest)
    for tag, operations in by_tag(history).items():
        value = value_of(operations)
        if value and began[tag] != [value]:
            yield f"I10: {tag} holds {value}, the audit says that it came to hold {began[tag]}"


def unexplained_adoptions(history: Iterable[Operation], events: Iterable[Recorded]) -> Iterator[str]:
    """I10: what came through a proxy is recorded as that push; only what went round it is adopted."""
    bypassed = {(operation.tag, operation.digest) for operation in history if operation.kind is Kind.BYPASS}
    for event in events:
        if event.outcome == "adopted" and (event.tag, event.digest) not in bypassed:
            yield f"I10: {event.tag} was adopted with {event.digest}, which nobody had written past the proxy"
