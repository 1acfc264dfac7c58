"""The audit's index: the stream of events in Redis, read into SQLite, so that every search comes to an end.

It is a projection: nothing is recorded here, and it may be thrown away at any time.  Each proxy has its own; two answer
the same.  Put together so (all of it on one event loop)::

    index = Index(folder, told=log)         # None, or a folder that cannot be used: in memory, the newest events only
    await index.open()                      # goes on with the file, or begins one and says why
    follower = Follower(store, index, on_failure=log)
    task = asyncio.create_task(follower.run())      # cancel it to stop, then `await index.close()`
    audit = Audit(index, follower)

What pages, API and commands ask::

    await audit.reach()                                           -> Reach         how much of the record is here
    await audit.events(search, filters=, limit=50, cursor="")     -> EventPage     newest first; both must hold
    await audit.history(repository, tag, limit=100, cursor="")    -> EventPage     one tag's life
    await audit.event(event_id)                                   -> Event | None
    audit.export_pages(search, filters=)                          -> async iterator of Sequence[Event]
    audit.export(search, filters=)                                -> async iterator of Event
    await audit.end()                                             -> str           cursor of the tail
    audit.tail(search, filters=, after="")                        -> async iterator of Arrival
    await audit.ask(views.chart, field, since, until, buckets)    -> Chart         or another one of `views`
    await audit.repositories(pattern, order=, limit=, cursor=)    -> RepositoryPage
    await audit.tags(repository, since=)                          -> list[TagFacts]    without what the register holds
    await audit.last_set(repository, tag)                         -> TagFacts
    await audit.total()                                           -> int
    await audit.caught_up(place, seconds)                         -> bool          all up to there is here
    await Rosters(store, audit).of(repository)                    -> Roster        tags of events and register, to sort

A command, which keeps no index, asks another way, and gets the same::

    visitor = Visitor(store, folder)        # the folder of the proxy on this machine
    visitor.export(search)                                        -> async iterator of Event, newest first
    visitor.tail(search)                                          -> async iterator of Event, as they arrive
    await visitor.count(before)                                   -> int

A page that is not ``complete`` has a ``next_cursor`` all the same, and says in ``searched_to`` how far it looked: its
time was up, or the index is still being built and the rest is not there yet (`Audit.reach`).  Cursors are places in the
stream: any proxy takes them, whatever became of the index.  All questions raise `IndexDamagedError` while a damaged
file is replaced, and `BadCursorError`.

A question that is not a search ends within `deadline.SECONDS`, its wait included, or raises `OutOfTimeError`; but
`tags`, of which a part is of no use.

`stream` reads Redis, `paging` walks, `conditions` makes SQL of a search, `views` counts, `writing` and `tags` write,
`schema` has the tables.
"""

from __future__ import annotations

from immuproxy.audit.audit import Audit, Reach
from immuproxy.audit.deadline import OutOfTimeError
from immuproxy.audit.follow import Follower
from immuproxy.audit.index import Index, IndexDamagedError, IndexFullError
from immuproxy.audit.rosters import Rosters
from immuproxy.audit.visiting import Visitor

__all__ = [
    "Audit",
    "Follower",
    "Index",
    "IndexDamagedError",
    "IndexFullError",
    "OutOfTimeError",
    "Reach",
    "Rosters",
    "Visitor",
]
