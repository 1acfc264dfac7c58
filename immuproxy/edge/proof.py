"""What is known of an interrupted push that no claim guards, by what the registry shows and what is recorded (H114).

The registry tells neither who set a tag nor what it held before.  That a push arrived is proved where its content was
seen under its tag and nobody else can have put it there; that it never arrived, where the registry does not have its
content at all.  Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from immuproxy.edge.refusals import iso
from immuproxy.ledger.model import Action, Event, Outcome

INTERRUPTED = "recorded after the push was interrupted"

_ID_DIGITS = 12
"""Hexadecimal digits at the beginning of an event's id: when its request began (ms)."""

_DELETES = frozenset({Action.DELETE_TAG, Action.DELETE_MANIFEST})
_LEFT_ALONE = frozenset({Outcome.REFUSED, Outcome.MISSING})
"""Outcomes of what surely changed nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An interrupted push and what is recorded besides.

    ``recorded``: events of its repository that name its digest, ``whole`` whether these are all; ``others``: the other
    intents of the repository.  ``quarantine``: ms for which the PUT of a lost proxy may still land.
    """

    intent: Event
    recorded: Sequence[Event]
    others: Sequence[Event]
    whole: bool
    quarantine: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What the registry showed at a time (ms).

    ``digest``: under the push's tag, or by its digest; empty for none, None where it could not be read.  ``stored``:
    whether the registry may have the content by its digest.
    """

    at: int
    digest: str | None
    stored: bool


def arrived(case: Case, seen: str) -> Event | None:
    """The event of a push that surely arrived; None where that is not known.

    ``seen``: the digest that the registry shows now, empty where it shows none or was not asked.
    """
    intent = case.intent
    if not case.whole:
        return None
    if intent.previous_digest == intent.digest:
        stays = seen == intent.digest and not any(_moves_away(case))
        return _ended(case, Outcome.UNCHANGED, f"the tag holds it as before; {INTERRUPTED}") if stays else None
    outcome = Outcome.OVERWRITTEN if intent.previous_digest else Outcome.CREATED
    if seen == intent.digest and not any(_rivals(case)):
        return _ended(case, outcome, f"the upstream holds it; {INTERRUPTED}")
    for sighting in _sightings(case):
        return _ended(case, outcome, f"event {sighting.id} names it as what the tag held; {INTERRUPTED}")
    return None


def given_up(case: Case, sight: Sight) -> Event:
    """The event of a push that can land no more and of which `arrived` knows nothing."""
    if case.whole and not sight.stored and not any(_deletes(case)):
        return _ended(case, Outcome.FAILED, "the push was interrupted, and the upstream does not hold its content")
    return _ended(case, Outcome.UNKNOWN, f"the push was interrupted; at {iso(sight.at)} {_shown(case.intent, sight)}")


def _shown(intent: Event, sight: Sight) -> str:
    where = "the tag" if intent.tag else "the registry"
    if sight.digest is None:
        return f"the registry could not read {intent.tag or 'its content'}"
    if sight.digest == intent.digest:
        return f"{where} held {sight.digest}, which others pushed as well"
    return f"{where} held {sight.digest or 'nothing'}, and nothing proves whether it held {intent.digest} before"


def _ended(case: Case, outcome: Outcome, reason: str) -> Event:
    return replace(case.intent, outcome=outcome, reason=reason)


def _sightings(case: Case) -> Iterator[Event]:
    """Whoever found the content under the tag after the intent, and found it there by nobody else."""
    intent = case.intent
    if not intent.tag:
        return
    for event in sorted([*case.recorded, *case.others], key=lambda event: event.time):
        pushed_over = event.action is Action.PUSH and event.previous_digest == intent.digest
        adopted = event.action is Action.ADOPT and event.digest == intent.digest
        if event.id != intent.id and event.tag == intent.tag and (pushed_over or adopted):
            rivals = (rival for rival in _rivals(case) if rival.id != event.id and began(rival) <= event.time)
            if began(event) >= intent.time and not any(rivals):
                yield event


def _rivals(case: Case) -> Iterator[Event]:
    """Whoever else may have put the content where it was seen, after this push had looked what was there.

    By its digest it may have been there for ever.
    """
    intent = case.intent
    since = began(intent) if intent.tag else -math.inf
    for event in changes(case, since):
        sets = event.tag == intent.tag and event.action in {Action.PUSH, Action.REPAIR}
        if event.digest == intent.digest and (sets or not intent.tag):
            yield event


def _moves_away(case: Case) -> Iterator[Event]:
    """Pushes of other content that may have come after this push had found its own under the tag."""
    intent = case.intent
    for event in changes(case, began(intent)):
        if event.action is Action.PUSH and event.tag == intent.tag and event.digest != intent.digest:
            yield event


def _deletes(case: Case) -> Iterator[Event]:
    """Deletes that may have taken the content."""
    for event in changes(case, began(case.intent)):
        if event.action in _DELETES and case.intent.digest in {event.digest, event.previous_digest}:
            yield event


def changes(case: Case, since: float) -> Iterator[Event]:
    """All other events and open intents that may have changed something at ``since`` (ms) or later."""
    for event, ended in _each(case):
        if event.outcome not in _LEFT_ALONE and ended >= since:
            yield event


def _each(case: Case) -> Iterator[tuple[Event, float]]:
    """All other events and open intents, each with when it was over at the latest."""
    for event in case.recorded:
        if event.id != case.intent.id:
            # Without a duration it was told by others, and may have landed for as long as any.
            yield event, event.time if event.duration_ms is not None else event.time + case.quarantine
    for intent in case.others:
        if intent.id != case.intent.id:
            yield intent, math.inf


def began(event: Event) -> int:
    """When the request began at the latest: by the clock of its proxy, and by that of Redis."""
    by_redis = event.time - (event.duration_ms or 0)
    try:
        return min(int(event.id[:_ID_DIGITS], 16), by_redis)
    except ValueError:
        return by_redis
