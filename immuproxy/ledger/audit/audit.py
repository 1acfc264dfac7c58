"""All questions to the audit, in one place; each is answered by the file that knows how."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from immuproxy.ledger.audit import cursors, entries
from immuproxy.ledger.audit.cursors import NEWEST
from immuproxy.ledger.audit.listing import Listing
from immuproxy.ledger.audit.plan import Planner
from immuproxy.ledger.audit.project import take
from immuproxy.ledger.audit.prune import Pruner
from immuproxy.ledger.audit.roster import Roster, Rosters, TagFacts
from immuproxy.ledger.audit.tail import Tail, cursor_behind
from immuproxy.ledger.audit.tallies import Tallies
from immuproxy.ledger.audit.values import Arrival, Chart, EventPage, PruneProgress, RepositoryPage, Tally
from immuproxy.ledger.audit.vocabulary import Vocabulary
from immuproxy.ledger.audit.walk import Walked, Walker
from immuproxy.ledger.model import Event
from immuproxy.ledger.redis import Store
from immuproxy.ledger.search import Search, Term

_EXPORT_PAGE = 100
"""Events of an export that are read in one go: about a millisecond for everybody else on the loop (H88)."""
_OLDER = "older"


class Audit:
    """The audit of one ledger.  Make one and share it: it remembers the known values and watches the end for all."""

    def __init__(self, store: Store) -> None:
        """Nothing is read before the first question."""
        self._store = store
        vocabulary = Vocabulary(store)
        self._walker = Walker(store, Planner(store, vocabulary))
        self._tallies = Tallies(store, vocabulary)
        self._listing = Listing(store, vocabulary, self._tallies)
        self._rosters = Rosters(store)
        self._tail = Tail(store)
        self._pruner = Pruner(store, vocabulary)

    async def append(self, event: Event) -> bool:
        """Record an event that belongs to no repository; false when it is there already (by its id)."""
        return bool(await take(self._store, "", "", [("", entries.entry(event.to_dict()))]))

    async def events(self, search: Search, *, limit: int = 50, cursor: str = "") -> EventPage:
        """A page of at most ``limit`` events, newest first, from ``cursor`` on.

        New events never shift a page.  Order is the order of arrival: after an outage an event may stand above others
        that are younger.
        """
        if cursor:
            return _page(await self._walker.walk(search, limit + 1, cursors.read_position(_OLDER, cursor)), limit)
        end = await self._tail.end()
        page = _page(await self._walker.walk(search, limit + 1, end), limit)
        return replace(page, live_cursor=cursor_behind(end))

    async def history(self, repository: str, tag: str, *, limit: int = 100, cursor: str = "") -> EventPage:
        """Every event of one tag, newest first."""
        return await self.events(_of_tag(repository, tag), limit=limit, cursor=cursor)

    async def event(self, event_id: str) -> Event | None:
        """One event by its id (or by the id of its request)."""
        found = [event async for event in self._some(Search((Term("id", event_id),)), 1)]
        return found[0] if found else None

    async def export(self, search: Search) -> AsyncIterator[Event]:
        """The whole result, newest first, read page by page while it is taken."""
        async for event in self._some(search, None):
            yield event

    async def export_pages(self, search: Search) -> AsyncIterator[Sequence[Event]]:
        """The same in pieces, each the work of one request: some, or none where nothing matched in that part."""
        async for walked in self._walks(search, None):
            yield [found.event for found in walked.found]

    async def _some(self, search: Search, count: int | None) -> AsyncIterator[Event]:
        """The first ``count`` events, or all, however much work that is."""
        async for walked in self._walks(search, count):
            for found in walked.found:
                yield found.event

    async def _walks(self, search: Search, count: int | None) -> AsyncIterator[Walked]:
        start, left = NEWEST, count
        while True:
            walked = await self._walker.walk(search, _EXPORT_PAGE if left is None else left, start)
            if left is not None:
                walked.found = walked.found[:left]
                left -= len(walked.found)
            yield walked
            if walked.resume is None or left == 0:
                return
            start = walked.resume

    def tail(self, search: Search, *, after: str = "") -> AsyncIterator[Arrival]:
        """Matching events as they arrive, for ever: from now on, or behind a cursor.

        That is one of an earlier `Arrival`, of `end`, or the ``live_cursor`` of a page: nothing between is left out,
        nothing comes twice.  Raises `BadCursorError` at once.
        """
        return self._tail.follow(search, after)

    async def end(self) -> str:
        """The cursor of `tail` for what comes from now on."""
        return cursor_behind(await self._tail.end())

    async def counts(self, since: int, until: int, buckets: int, *, field: str = "outcome") -> Chart:
        """How many events had each value of ``field`` over time.

        ``field`` is outcome, action, attempt (such as ``push refused``: see `entries.attempt`), repo, actor, rule or
        ip (networks).  Raises `ValueError` for another, for an empty span, or for more than 400 buckets.
        """
        return await self._tallies.chart(field, since, until, buckets)

    async def shadowed(self, since: int, until: int) -> int:
        """How many events a rule in shadow mode would have refused, from one time to before another."""
        ((before, upto, _),) = await self._tallies.ranks([entries.SHADOW], [since, until])
        return upto - before

    async def top(
        self, field: str, *, since: int, until: int, outcome: str | None = None, limit: int = 10
    ) -> list[Tally]:
        """The values with most events between two times, most first.

        ``field`` is repo, actor, rule, outcome, action or ip (networks).  With an ``outcome`` (refused or failed) it is
        repo, tag (``repository:tag``), actor or rule, and whole hours are counted; a value that was never among the
        hundred most frequent of an hour or day may be left out.  Raises `ValueError` for others.
        """
        if outcome is None:
            return await self._tallies.top(field, since, until, limit)
        return await self._tallies.top_of_outcome(field, outcome, since, until, limit)

    async def facet_values(self, field: str, prefix: str = "", *, repository: str = "", limit: int = 20) -> list[Tally]:
        """Known values of a key of the search syntax that begin with, or contain, ``prefix``; for completion.

        ``field`` is repo, tag, actor, rule, outcome, action or ip.  Tags are those of ``repository``, or recent ones,
        and come without counts.  Raises `ValueError` for other fields.
        """
        return await self._tallies.known_values(field, prefix, repository, limit)

    async def repositories(
        self, pattern: str = "", *, order: str = "activity", limit: int = 50, cursor: str = ""
    ) -> RepositoryPage:
        """Repositories that contain ``pattern``, or match it where it has wildcards.

        ``order`` is activity, name, events or refusals; a cursor belongs to its order.
        """
        return await self._listing.repositories(pattern, order, limit, cursor)

    async def roster(self, repository: str) -> Roster:
        """All tags of the repository, those that events name and those that are held; for pages that sort and filter.

        The first look reads all of them, later ones what changed since.  It is shared: do not change it.
        """
        return await self._rosters.of(repository)

    async def last_set(self, repository: str, tag: str) -> TagFacts:
        """When one tag was last set, to what and by whom, as its events tell."""
        return await self._rosters.last_set(repository, tag)

    async def total(self) -> int:
        """How many events are held."""
        return int(await self._store.do(self._store.client.xlen(entries.EVENTS)))

    async def prune(self, before: int) -> AsyncIterator[PruneProgress]:
        """Remove what entered the audit before a time, for good; take from the iterator until it ends."""
        async for progress in self._pruner.prune(before):
            yield progress


def _of_tag(repository: str, tag: str) -> Search:
    return Search().with_term("repo", repository).with_term("tag", tag)


def _page(walked: Walked, limit: int) -> EventPage:
    found = walked.found
    if len(found) > limit:
        place, complete = found[limit].place, True
    elif walked.resume is None:
        return EventPage(tuple(each.event for each in found), "", complete=True)
    else:
        place, complete = walked.resume, len(found) == limit
    events = tuple(each.event for each in found[:limit])
    return EventPage(events, cursors.write_position(_OLDER, place), complete, None if complete else place.ms)
