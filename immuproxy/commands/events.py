"""How events are shown: as the columns of a table, or each as one line."""

from __future__ import annotations

from immuproxy.commands.screen import coloured, moment, plain, short
from immuproxy.ledger.model import Event

HEADINGS = ("time", "action", "outcome", "what", "digest", "actor", "rule", "reason")


def cells(event: Event) -> tuple[str, ...]:
    """The cells under `HEADINGS`."""
    return (
        moment(event.time),
        event.action.value,
        event.outcome.value,
        subject(event),
        short(event.digest),
        event.actor or "-",
        event.rule,
        event.reason,
    )


def subject(event: Event) -> str:
    """What the event is about: ``repo:tag``, or the repository where no tag is meant."""
    return f"{event.repository}:{event.tag}" if event.tag else event.repository


def line(event: Event) -> str:
    """The event as one line, its outcome coloured."""
    before, after = cells(event)[:2], cells(event)[3:]
    words = [*map(plain, before), coloured(event.outcome), *(plain(cell) for cell in after if cell)]
    return "  ".join(words)
