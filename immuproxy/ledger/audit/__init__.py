"""The audit: every event of every repository, in one stream, with indexes that let a search read only what it shows.

For the console and the JSON API, all on one `Audit` (``from immuproxy.ledger.audit import Audit``)::

    audit = Audit(store)
    await audit.events(search, limit=50, cursor="")              -> EventPage     newest first
    await audit.history(repository, tag, limit=100, cursor="")   -> EventPage     one tag's life, newest first
    await audit.event(event_id)                                  -> Event | None
    await audit.end()                                            -> str           cursor of the tail
    audit.tail(search, after="")                                 -> async iterator of Arrival(event, cursor)
    audit.export(search)                                         -> async iterator of Event, the whole result
    audit.export_pages(search)                                   -> async iterator of Sequence[Event], the same
    await audit.counts(since, until, buckets, field="outcome")   -> Chart         for charts; field: outcome | action
    await audit.top(field, since=, until=, outcome=None, limit=) -> list[Tally]   most frequent values
    await audit.facet_values(field, prefix="", repository="", limit=20) -> list[Tally]  completion of known values
    await audit.repositories(pattern="", order="activity", limit=50, cursor="") -> RepositoryPage
    await audit.roster(repository)                               -> Roster        all its tags, to sort and filter
    await audit.last_set(repository, tag)                        -> TagFacts      when, to what and by whom
    await audit.total()                                          -> int           events held
    await audit.append(event)                                    -> bool          for events without a repository
    audit.prune(before)                                          -> async iterator of PruneProgress

``search`` is a `immuproxy.ledger.search.Search` (``parse(text, now_ms)``, ``from_parameters(now_ms, repository=...)``).
Times are milliseconds since 1970 UTC.  All of these raise `LedgerUnavailableError`; a cursor that nobody issued raises
`BadCursorError`.  No request does unbounded work: a page may be short, or empty, and still have a ``next_cursor``.

`Projector` carries the events from the outboxes of the repositories into the audit::

    projector = Projector(store)
    task = asyncio.create_task(projector.run())   # cancel it to stop
    projector.notify(repository)                  # after each script that wrote an event; returns at once
"""

from __future__ import annotations

from immuproxy.ledger.audit.audit import Audit
from immuproxy.ledger.audit.project import Projector
from immuproxy.ledger.audit.record import Record
from immuproxy.ledger.audit.roster import Roster, TagFacts
from immuproxy.ledger.audit.testimony import Testimony, Witnesses
from immuproxy.ledger.audit.values import (
    Arrival,
    BadCursorError,
    Chart,
    EventPage,
    PruneProgress,
    RepositoryPage,
    RepositorySummary,
    Series,
    Tally,
)

__all__ = [
    "Arrival",
    "Audit",
    "BadCursorError",
    "Chart",
    "EventPage",
    "Projector",
    "PruneProgress",
    "Record",
    "RepositoryPage",
    "RepositorySummary",
    "Roster",
    "Series",
    "TagFacts",
    "Tally",
    "Testimony",
    "Witnesses",
]
