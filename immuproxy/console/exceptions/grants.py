"""The exceptions page: who allowed what, until when, why, and what became of it.  PURE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from immuproxy.allow import permission
from immuproxy.allow.exceptions import TO_DELETE, Allows, Exemption
from immuproxy.ledger.model import Event, Outcome, TagRecord
from immuproxy.rules.model import RuleSet

DURATIONS = (("30m", "30 minutes"), ("2h", "2 hours"), ("8h", "8 hours"), ("1d", "a day"), ("7d", "a week"))
"""What the form proposes; anything else may be typed."""


@dataclass(frozen=True, slots=True)
class Used:
    """The pushes, or deletes, that made use of a permission, newest first; ``more`` where there are others."""

    pushes: tuple[Event, ...] = ()
    more: bool = False


@dataclass(frozen=True, slots=True)
class Granted:
    """The event of a grant, what ended it (an end, or a later grant of the same tag), and its use."""

    event: Event
    standing: bool
    ended: Event | None
    used: Used


def uses(events: Sequence[Event], event_id: str, *, more: bool) -> Used:
    """Those pushes whose reason names the permission, not those in which a client wrote its id somewhere."""
    return Used(tuple(event for event in events if f"event {event_id}," in event.reason), more)


def _used(used: Used) -> dict[str, Any]:
    pushes = [
        {"event": event.id, "time": event.time, "digest": event.digest, "actor": event.actor} for event in used.pushes
    ]
    return {"used": pushes, "used_more": used.more}


def standing_dict(exemption: Exemption, used: Used, rules: RuleSet, known: TagRecord) -> dict[str, Any]:
    """A permission in force; ``needless`` says where it is not needed, ``unknown`` where nobody knows the tag."""
    rule = rules.match(exemption.repository, exemption.tag)
    needless = permission.needless(rule, exemption.repository, exemption.tag, exemption.allows)
    return exemption.to_dict() | {"needless": needless, "unknown": permission.unknown(rule, known)} | _used(used)


def allows_of(granted: Event) -> Allows:
    """What a grant in the audit allows."""
    return Allows.DELETE if granted.reason.startswith(TO_DELETE) else Allows.OVERWRITE


def end_of(granted: Event, later: Sequence[Event]) -> Event | None:
    """What ended a grant: the next event about an exception of the same tag; ``later`` in any order."""
    behind = [event for event in later if (event.time, event.id) > (granted.time, granted.id)]
    return min(behind, key=lambda event: (event.time, event.id), default=None)


def _ended(each: Granted) -> tuple[str, str]:
    """How a grant stands, in one word, and by whom it was ended."""
    if each.standing:
        return "in force", ""
    if each.ended is None:
        return "ended", ""
    if each.ended.outcome is Outcome.GRANTED:
        return "replaced", each.ended.actor
    return ("ended", each.ended.actor) if each.ended.actor else ("over", "")


def history_dict(each: Granted) -> dict[str, Any]:
    """One grant of the past or present."""
    state, by = _ended(each)
    return {
        "event": each.event.id,
        "repository": each.event.repository,
        "tag": each.event.tag,
        "digest": each.event.digest,
        "granted": each.event.time,
        "by": each.event.actor,
        "reason": each.event.reason.removeprefix(TO_DELETE),
        "allows": allows_of(each.event),
        "state": state,
        "ended": each.ended.time if each.ended and not each.standing else None,
        "ended_by": by,
        "ended_event": each.ended.id if each.ended and not each.standing else None,
    } | _used(each.used)


def exceptions_context(
    standing: Sequence[dict[str, Any]], history: Sequence[Granted], count: int, cursors: tuple[str, str]
) -> dict[str, Any]:
    """``count``: all in force; ``cursors``: those of the next in force, and of older grants."""
    return {
        "in_force": count,
        "exceptions": list(standing),
        "history": [history_dict(each) for each in history],
        "next_cursor": cursors[0] or None,
        "history_cursor": cursors[1] or None,
    }


def form_context(values: Mapping[str, str], errors: Mapping[str, str]) -> dict[str, Any]:
    """What stands in the form, and what is wrong with it, by the names of its fields."""
    return {
        "form": {name: values.get(name, "") for name in ("tag", "for", "reason", "digest", "allows")},
        "errors": dict(errors),
        "durations": DURATIONS,
    }
