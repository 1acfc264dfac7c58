"""The record: every event of every repository, once, in one stream (`keys.EVENTS`).

`Projector` carries the events from the outboxes of the repositories into it::

    projector = Projector(store)
    task = asyncio.create_task(projector.run())   # cancel it to stop
    projector.notify(repository)                  # after each script that wrote an event; returns at once

and `Record` takes those that belong to no repository.  What reads and searches it is `immuproxy.audit`.
"""

from __future__ import annotations

from immuproxy.audit.record.project import Projector
from immuproxy.audit.record.record import Record

__all__ = ["Projector", "Record"]
