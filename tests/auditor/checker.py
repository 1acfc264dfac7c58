"""Whether the audit tells what was.  Pure: a recording of what was sent, answered and taken, and the events.

    assert not violations(recording, events)

Each violation begins with the name of its rule: `count`, `twice`, `nobody's`, a field's name, `story`, `order`, `end`.
The views of the audit are compared by `views.differences`.
"""

from __future__ import annotations

from collections.abc import Sequence

from immuproxy.ledger.model import Event
from tests.auditor.counting import count
from tests.auditor.fields import fields
from tests.auditor.order import order
from tests.auditor.recording import Recording
from tests.auditor.stories import stories


def violations(recording: Recording, events: Sequence[Event]) -> list[str]:
    """Everything that is told and was not, or was and is not told; `events` in the audit's order, oldest first."""
    return [
        *count(recording, events),
        *fields(recording, events),
        *stories(recording, events),
        *order(recording, events),
    ]
