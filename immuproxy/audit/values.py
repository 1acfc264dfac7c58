"""What the queries of the audit answer with.  No I/O here.

Times are milliseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

from dataclasses import dataclass

from immuproxy.ledger.model import Event


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events newest first.

    ``next_cursor`` is where to go on, empty at the end of the result.  ``complete`` is false when the page is short
    because the search had done its share of work: there may be more behind ``next_cursor``; without one, more is
    recorded than there is room for.  ``searched_to`` is how far back it looked then.  ``live_cursor``, on a first page,
    is where the live tail goes on: what comes behind it is what the page does not show yet.
    """

    events: tuple[Event, ...]
    next_cursor: str
    complete: bool
    searched_to: int | None = None
    live_cursor: str = ""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event of the live tail; give ``cursor`` as ``after`` to go on behind it after a disconnect."""

    event: Event
    cursor: str


@dataclass(frozen=True, slots=True)
class Series:
    """How many events had this value, one number a bucket."""

    value: str
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """Over all buckets."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class Chart:
    """Counts over time.  Bucket ``i`` runs from ``edges[i]`` to before ``edges[i + 1]``;
    values never seen are left out.

    An event counts when it entered the audit: as a rule at its own time, after an outage later.
    """

    field: str
    edges: tuple[int, ...]
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """A value and how often it occurs.  ``last`` is the time of its last event, where known."""

    value: str
    count: int
    last: int | None = None


@dataclass(frozen=True, slots=True)
class RepositorySummary:
    """What the audit knows of one repository.

    ``tags``: how many different tags its events name.  ``events``: all of them, of which ``refusals`` were refused.
    """

    repository: str
    tags: int
    events: int
    refusals: int
    last: int


@dataclass(frozen=True, slots=True)
class RepositoryPage:
    """Some repositories, and how many match in all; ``next_cursor`` is empty on the last page."""

    repositories: tuple[RepositorySummary, ...]
    matching: int
    next_cursor: str


@dataclass(frozen=True, slots=True)
class TagFacts:
    """What a list of tags says of one; times in milliseconds, 0 where there is none.

    ``last``: its last event of any kind but exceptions.  ``held``: since when the ledger holds it.  ``changed``: when
    it was last set (or deleted, see ``gone``), to ``digest``, ``by`` whom.
    """

    tag: str
    last: int = 0
    held: int = 0
    changed: int = 0
    digest: str = ""
    by: str = ""
    gone: bool = False
