"""What is recorded of one content or tag of a repository, wherever it stands: in the record, or still in the outbox."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from immuproxy.audit.index import IndexDamagedError
from immuproxy.audit.search import Moment, Search
from immuproxy.audit.walking import StreamWalk
from immuproxy.ledger import keys
from immuproxy.ledger.model import Event, event_from_dict
from immuproxy.store.redis import Store

MOST = 500
"""Events that are read of one, and waiting ones of its repository: some 20 ms."""


class UnheardError(Exception):
    """What is recorded could not be asked for.  It may be at another time, and proves nothing until then (H133)."""


@dataclass(frozen=True, slots=True)
class Testimony:
    """Events that name a tag, or a digest as the new or the previous one; ``whole`` is false where there are more."""

    events: tuple[Event, ...]
    whole: bool


class Told(Protocol):
    """Whoever can search what is recorded by now: `immuproxy.audit.Audit`, or a `immuproxy.audit.Visitor`."""

    async def told(self, search: Search, since: int, most: int) -> tuple[Sequence[Event], bool]:
        """At most ``most`` matching events from a time on (ms), newest first; false where there are more.

        Raises `LedgerUnavailableError`, and `IndexDamagedError` where it cannot say that.
        """


class Witnesses:
    """Asks the record and the outboxes."""

    def __init__(self, store: Store, record: Told) -> None:
        """``record`` is that of ``store``."""
        self._store = store
        self._record = record
        self._walk = StreamWalk(store)

    async def of(self, repository: str, digest: str, *, since: int = 0, walk: bool = False) -> Testimony:
        """All that is recorded of a content by now, from a time on (ms).

        ``walk``: by the stream where the index cannot be asked, which takes up to `walking.SECONDS`.  Raises
        `UnheardError` and `LedgerUnavailableError`.
        """

        def names(event: Event) -> bool:
            return digest in {event.digest, event.previous_digest}

        return await self._told(repository, names, Search().with_term("digest", digest), since, walk=walk)

    async def of_tag(self, repository: str, tag: str, *, since: int = 0, walk: bool = False) -> Testimony:
        """The same of a tag."""
        search = Search().with_term("tag", tag)
        return await self._told(repository, lambda event: event.tag == tag, search, since, walk=walk)

    async def _told(
        self, repository: str, names: Callable[[Event], bool], search: Search, since: int, *, walk: bool
    ) -> Testimony:
        """The outbox is read first: what is carried over meanwhile is found in the record, perhaps in both."""
        waiting: Any = await self._store.do(self._store.client.xrange(keys.outbox(repository), count=MOST + 1))
        if len(waiting) > MOST:
            raise UnheardError("too many events wait to be carried into the audit")
        found = [_event(fields) for _, fields in waiting]
        search = replace(search.with_term("repo", repository), since=Moment(since, ""))
        recorded, whole = await self._recorded(search, since, walk=walk)
        told = {event.id: event for event in (*found, *recorded) if event and names(event)}
        return Testimony(tuple(told.values()), whole=whole)

    async def _recorded(self, search: Search, since: int, *, walk: bool) -> tuple[Sequence[Event], bool]:
        try:
            return await self._record.told(search, since, MOST)
        except IndexDamagedError as error:
            reason = str(error)
        if walk:
            with suppress(TimeoutError):
                return await self._walk.told(search, since, MOST)
        raise UnheardError(reason)


def _event(fields: dict[bytes, bytes]) -> Event | None:
    """None for what no proxy of this release has written; the projector sets such things aside."""
    try:
        return event_from_dict(json.loads(fields[b"event"]))
    except (ValueError, KeyError, TypeError):
        return None
