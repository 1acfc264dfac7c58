"""What may have become of the content of an interrupted delete besides, by what is recorded (H114).  Pure."""

from __future__ import annotations

from immuproxy.edge.proof import Case, began, changes
from immuproxy.ledger.model import Action, Event

_SETS = frozenset({Action.PUSH, Action.REPAIR, Action.ADOPT})


def digests(intent: Event) -> tuple[str, ...]:
    """Of a delete: the digest that was asked for, and the one by which the upstream keeps the content (H81)."""
    return tuple(filter(None, (intent.digest, intent.previous_digest)))


def may_be_back(case: Case) -> bool:
    """Whether the delete may have gone through and somebody brought the content back.

    Uploads of blobs are recorded by nobody.
    """
    intent = case.intent
    if intent.action is Action.DELETE_BLOB or not case.whole:
        return True
    return any(
        event.action in _SETS and (event.tag == intent.tag if intent.tag else event.digest in digests(intent))
        for event in changes(case, began(case.intent))
    )


def may_be_taken(case: Case) -> bool:
    """Whether another delete may have taken the content in the time of this one, or the tag, which the ledger knows
    still: a delete that has ended has taken it from there.
    """
    intent, held = case.intent, digests(case.intent)
    if intent.tag:
        return any(
            open_.action is Action.DELETE_MANIFEST and (not held or open_.digest in held) for open_ in case.others
        )
    return not case.whole or any(
        event.action is intent.action and event.digest in held for event in changes(case, began(case.intent))
    )
