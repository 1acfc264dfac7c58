"""All questions to the audit, in one place."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Concatenate, ParamSpec, TypeVar

from immuproxy.audit import paging, schema, views
from immuproxy.audit.deadline import OutOfTimeError, ends_by, last_moment
from immuproxy.audit.follow import Follower
from immuproxy.audit.index import Index, IndexDamagedError, IndexFullError
from immuproxy.audit.paging import Walked
from immuproxy.audit.search import Search, Term
from immuproxy.audit.values import Arrival, EventPage, RepositoryPage, TagFacts
from immuproxy.ledger.model import Event
from immuproxy.store.redis import LedgerUnavailableError
from immuproxy.values import cursors
from immuproxy.values.cursors import Position

_EXPORT_PAGE = 100
"""Events of an export that are read in one go: about a millisecond for everybody else on the loop (H88)."""

P = ParamSpec("P")
T = TypeVar("T")
_ALL = Search()
_OLDER, _NEWER = "older", "newer"

MOST_TAGS = 100_000
"""Tags of one repository, the last active ones."""

_WAITED = 1.0
"""Seconds that a witness is waited for."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How much of the record can be searched at this moment.

    ``since``: milliseconds of the oldest event that is here, None where there is none; ``complete``: the record holds
    no older ones; ``bounded``: it does, and they will not be here, because an index in memory has no room for them.
    ``until``: milliseconds of the newest one while newer ones that are recorded are still being read,
    else None.  ``failure`` says what keeps new ones away, and is empty where nothing does.
    """

    since: int | None
    complete: bool
    until: int | None = None
    bounded: bool = False
    failure: str = ""


class Audit:
    """The audit of one ledger, as its index tells it."""

    def __init__(self, index: Index, follower: Follower) -> None:
        """``index`` is open, and ``follower`` runs, while questions are asked."""
        self._index = index
        self._follower = follower

    async def reach(self) -> Reach:
        """What the pages say beside what they show."""
        walked = await self._walk([_ALL], 0, paging.NEWEST)
        behind, failed = self._follower.behind, self._follower.failed
        since = schema.ms_of(walked.since) if walked.high else None
        until = schema.ms_of(walked.high) if walked.high and behind else None
        bounded = self._follower.bounded and walked.high > 0 and not walked.whole
        complete = walked.whole and (walked.high > 0 or not behind)  # what was empty may be so no more
        return Reach(since, complete, until, bounded, str(failed) if failed else "")

    async def caught_up(self, place: int, seconds: float) -> bool:
        """Wait until all is here that stands in the stream up to its event at ``place``, or nothing where that is 0.

        False where that takes too long, or the index cannot be asked: newer events alone may be of another past.
        """
        try:
            async with asyncio.timeout(seconds):
                seen = self._follower.seen
                while not await self._index.read(partial(views.reaches, place=place)):
                    await self._follower.change(seen)
                    seen = self._follower.seen
        except (TimeoutError, IndexDamagedError):
            return False
        return True

    async def events(self, search: Search, *, filters: Search = _ALL, limit: int = 50, cursor: str = "") -> EventPage:
        """A page of at most ``limit`` events that both ``search`` and ``filters`` want, newest first, from ``cursor``.

        New events never shift a page.  Order is the order of arrival: after an outage an event may stand above others
        that are younger.  What a cursor of another proxy points at may be yet to come here (H129): then the page is
        empty, and goes on at the same cursor.  Where an index in memory has no room for older ones, the search ends,
        and is not complete.
        """
        start = _place(cursors.read_position(_OLDER, cursor)) if cursor else paging.NEWEST
        walked = await self._walk([search, filters], limit + 1, start)
        if not cursor:
            page = _page(walked, limit, ends=self._at_its_bound(walked))
            return replace(page, live_cursor=_written(_NEWER, await self._end_of(walked)))
        if walked.high < start:
            if not await self._has_come_to(start):
                return EventPage((), cursor, complete=False)
            walked = await self._walk([search, filters], limit + 1, start)
        return _page(walked, limit, ends=self._at_its_bound(walked))

    async def history(self, repository: str, tag: str, *, limit: int = 100, cursor: str = "") -> EventPage:
        """Every event of one tag, newest first."""
        of_tag = Search().with_term("repo", repository).with_term("tag", tag)
        return await self.events(of_tag, limit=limit, cursor=cursor)

    async def newest(self, search: Search) -> Event | None:
        """The newest event that matches; None where none does of all that is here.

        A search that is cut goes on, so that nothing is missing only because it was not come to.  Raises
        `OutOfTimeError`.
        """
        walked = await self._walk_on(search, 1, last_moment())
        return walked.found[0].event if walked.found else None

    async def event(self, event_id: str) -> Event | None:
        """One event by its id (or by the id of its request); None where the index holds none.

        It is waited a little for what was recorded just now.  Where that is not there yet, nobody knows: raises
        `IndexDamagedError`, `OutOfTimeError`, and `LedgerUnavailableError`.
        """
        search = Search((Term("id", event_id),))
        found = await self.newest(search)
        if found is None:
            if not await self.caught_up(await self._follower.end(), _WAITED):
                raise IndexDamagedError("what was recorded just now cannot be searched yet")
            found = await self.newest(search)
        return found

    async def export_pages(self, search: Search, *, filters: Search = _ALL) -> AsyncIterator[Sequence[Event]]:
        """The whole result, newest first, in pieces: some events, or none where nothing matched in that part.

        While the index is built it waits for the rest; raises what keeps that away, so that a part is never taken for
        the whole.
        """
        start: int | None = paging.NEWEST
        while start is not None:
            seen = self._follower.seen
            walked = await self._walk([search, filters], _EXPORT_PAGE, start)
            yield [found.event for found in walked.found]
            if self._at_its_bound(walked):
                raise IndexFullError("there is room in memory for the newest events only")
            if walked.is_through and not walked.whole:
                await self._changed(seen)
            start = walked.resume

    async def export(self, search: Search, *, filters: Search = _ALL) -> AsyncIterator[Event]:
        """The same, event by event."""
        async for events in self.export_pages(search, filters=filters):
            for event in events:
                yield event

    async def told(self, search: Search, since: int, most: int) -> tuple[Sequence[Event], bool]:
        """At most ``most`` events that are recorded by now, from a time on (ms), newest first; false where more are.

        They are all before the index goes back to the beginning: what it lacks then was recorded before that time.
        Raises `LedgerUnavailableError`, and `IndexDamagedError` where the index cannot say that within a second.
        """
        try:
            async with asyncio.timeout(_WAITED):
                there = await self.caught_up(await self._follower.end(), _WAITED)
                walked = await self._walk_on(search, most + 1, monotonic() + _WAITED) if there else None
        except (TimeoutError, OutOfTimeError):
            walked = None
        if walked is None:
            raise IndexDamagedError("what was recorded just now cannot be searched yet")
        events = [found.event for found in walked.found]
        if len(events) > most:
            return events[:most], False
        if not walked.is_through or not (walked.whole or schema.ms_of(walked.since) < since):
            raise IndexDamagedError("what was recorded before cannot be searched yet")
        return events, True

    def tail(self, search: Search, *, filters: Search = _ALL, after: str = "") -> AsyncIterator[Arrival]:
        """Matching events as they arrive, for ever: from now on, or behind a cursor.

        That is one of an earlier `Arrival`, of `end`, or the ``live_cursor`` of a page: nothing between is left out,
        nothing comes twice.  Raises `BadCursorError` at once, and later what keeps new events away.
        """
        return self._tail([search, filters], _place(cursors.read_position(_NEWER, after)) if after else None)

    async def _tail(self, searches: Sequence[Search], place: int | None) -> AsyncIterator[Arrival]:
        place = await self._end() if place is None else place
        while True:
            seen = self._follower.seen
            newer = partial(paging.newer, searches=searches, after=place, seconds=paging.DEADLINE)
            walked = await self._index.read(newer)
            if not walked.whole and place < walked.since - 1:  # what lies between is still being read
                await self._rest_of(seen)
                continue
            for found in walked.found:
                yield Arrival(found.event, _written(_NEWER, found.place))
            if walked.high == place:
                await self._changed(seen)
            place = walked.high

    async def _has_come_to(self, place: int) -> bool:
        """Whether all is here by now that is recorded up to a place; that is waited for a little."""
        try:
            return await self.caught_up(await self._follower.end(place), _WAITED)
        except LedgerUnavailableError:
            return False

    async def _end(self) -> int:
        return await self._end_of(await self._walk([_ALL], 0, paging.NEWEST))

    async def _end_of(self, walked: Walked) -> int:
        """The newest place that is here; that of the record while nothing is here yet."""
        return walked.high if walked.high or walked.whole else await self._follower.end()

    async def _rest_of(self, seen: int) -> None:
        """Wait for older events."""
        if self._follower.bounded:
            raise IndexFullError("there is room in memory for the newest events only")
        await self._changed(seen)

    async def _changed(self, seen: int) -> None:
        await self._follower.change(seen)
        if self._follower.failed is not None:
            raise self._follower.failed

    async def end(self) -> str:
        """The cursor of `tail` for what comes from now on."""
        return _written(_NEWER, await self._end())

    async def ask(
        self, view: Callable[Concatenate[sqlite3.Connection, P], T], *arguments: P.args, **options: P.kwargs
    ) -> T:
        """What one of `views` says; raises `OutOfTimeError`, also where its turn comes too late."""
        latest = last_moment()

        def answer(connection: sqlite3.Connection) -> T:
            with ends_by(connection, latest):
                return view(connection, *arguments, **options)

        return await self._index.read(answer)

    async def repositories(
        self, pattern: str = "", *, order: str = "activity", limit: int = 50, cursor: str = ""
    ) -> RepositoryPage:
        """Repositories that contain ``pattern``, or match it where it has wildcards.

        ``order`` is activity, name, events or refusals; a cursor belongs to its order.
        """
        if order not in views.ORDERS:
            raise ValueError(f"{order!r} is no order; choose one of {', '.join(views.ORDERS)}")
        behind = None
        if cursor:
            weight, name = cursors.read(order, (int, str), cursor)
            behind = -int(weight), str(name)
        found, matching = await self.ask(views.repositories, pattern, order, limit + 1, behind)
        shown = found[:limit]
        following = cursors.write(order, views.weight(order, shown[-1]), shown[-1].repository) if found[limit:] else ""
        return RepositoryPage(tuple(shown), matching, following)

    async def tags(self, repository: str, *, since: int = 0, most: int = MOST_TAGS) -> list[TagFacts]:
        """See `views.tags`.  It takes its time: a roster that was cut would be cut again at each look."""
        return await self._index.read(partial(views.tags, repository=repository, since=since, most=most))

    async def mark(self) -> object:
        """See `views.mark`; one of another index is another one."""
        begun = self._index.begun  # before it is asked: else what a newer one says could be taken for it
        return begun, await self.ask(views.mark)

    async def last_set(self, repository: str, tag: str) -> TagFacts:
        """When one tag was last set, to what and by whom, as its events tell."""
        found = await self.ask(views.tags, repository, most=1, tag=tag)
        return found[0] if found else TagFacts(tag)

    async def total(self) -> int:
        """How many events can be searched."""
        return await self.ask(views.total)

    def _at_its_bound(self, walked: Walked) -> bool:
        """Whether all was looked at that an index in memory has room for; one that is begun anew has nothing yet."""
        return self._follower.bounded and walked.high > 0 and walked.is_through and not walked.whole

    async def _walk_on(self, search: Search, count: int, latest: float) -> Walked:
        """The newest that match, down to the oldest that is here; raises `OutOfTimeError` where that takes too long."""
        walked = await self._walk([search], count, paging.NEWEST)
        while len(walked.found) < count and walked.resume is not None and not walked.is_through:
            if monotonic() > latest:
                raise OutOfTimeError
            more = await self._walk([search], count - len(walked.found), walked.resume)
            walked = replace(more, found=walked.found + more.found)
        return walked

    async def _walk(self, searches: Sequence[Search], count: int, start: int) -> Walked:
        walk = partial(paging.walk, searches=searches, count=count, start=start, seconds=paging.DEADLINE)
        return await self._index.read(walk)


def _place(position: Position) -> int:
    return min(schema.place_of(*position), paging.NEWEST)


def _written(kind: str, place: int) -> str:
    return cursors.write_position(kind, Position(schema.ms_of(place), place & schema.MOST_SEQUENCE))


def _page(walked: Walked, limit: int, *, ends: bool) -> EventPage:
    """``ends``: what is older than all that was looked at will not be there."""
    events = tuple(each.event for each in walked.found[:limit])
    if len(walked.found) > limit:
        return EventPage(events, _written(_OLDER, walked.found[limit].place), complete=True)
    if walked.resume is None:
        return EventPage(events, "", complete=True)
    if ends:
        return EventPage(events, "", complete=False, searched_to=schema.ms_of(walked.since))
    searched_to = schema.ms_of(walked.resume) if walked.high else None
    return EventPage(events, _written(_OLDER, max(0, walked.resume)), complete=False, searched_to=searched_to)
