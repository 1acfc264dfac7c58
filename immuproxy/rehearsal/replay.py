"""From recorded events to what the rules can judge anew.  Pure.

For ``immuproxy simulate`` and whoever else wants to know what another rules file would have said to the past.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from immuproxy.ledger.model import Action, Event, Outcome
from immuproxy.rules.decide import BY_EXCEPTION
from immuproxy.rules.model import Decision, Held, Image, PushFacts, Verdict
from immuproxy.rules.simulate import Recorded, Request

REQUESTS = {Action.PUSH: Request.PUSH, Action.DELETE_TAG: Request.DELETE}
"""The actions that rules decide about."""

_DECISIONS = {
    Outcome.CREATED: Decision.CREATE,
    Outcome.OVERWRITTEN: Decision.OVERWRITE,
    Outcome.UNCHANGED: Decision.UNCHANGED,
    Outcome.REFUSED: Decision.REFUSE,
    Outcome.DELETED: Decision.DELETE,
}

FirstPushes = Mapping[tuple[str, str], int]
"""When each (repository, tag) first held anything, in ms, for those of which that is known."""


def was_judged(event: Event) -> bool:
    """Whether the event is a push or delete of a tag that came to a verdict; what merely failed did not."""
    return bool(event.tag) and event.action in REQUESTS and event.outcome in _DECISIONS


def replayed(events: Iterable[Event], first_pushes: FirstPushes) -> Iterator[Recorded]:
    """The judged ones among ``events``, in the same order (`immuproxy.rules.simulate` wants the oldest first)."""
    return (_recorded(event, first_pushes) for event in events if was_judged(event))


def _recorded(event: Event, first_pushes: FirstPushes) -> Recorded:
    return Recorded(
        event=event.id,
        push=PushFacts(
            repository=event.repository,
            tag=event.tag,
            image=_image(event.digest, event.media_type),
            user=event.actor or None,
            user_confirmed=event.actor_confirmed,
            address=event.client_address or None,
            now_ms=event.time,
        ),
        was=Verdict(_DECISIONS[event.outcome], event.reason, event.rule, event.rule_line or 0, event.shadow),
        before=_before(event, first_pushes.get((event.repository, event.tag))),
        request=REQUESTS[event.action],
        permitted=event.reason.removeprefix(BY_EXCEPTION) if event.reason.startswith(BY_EXCEPTION) else None,
    )


def _before(event: Event, first: int | None) -> Held | None:
    """What the tag held just before.  A first push after this event is one of a later life of the tag."""
    digest = event.digest if event.action is Action.DELETE_TAG else event.previous_digest
    if not digest:
        return None
    return Held(_image(digest, ""), first if first is not None and first <= event.time else None)


def _image(digest: str, media_type: str) -> Image:
    return Image(digest=digest, media_type=media_type, entries=frozenset(), labels={})
