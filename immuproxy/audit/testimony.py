"""What is recorded of one content or tag of a repository, wherever it stands: in the record, or still in the outbox."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from immuproxy.audit.search import Moment, Search
from immuproxy.ledger import keys
from immuproxy.ledger.model import Event, event_from_dict
from immuproxy.ledger.redis import Store

MOST = 500
"""Events that are read of one, and waiting ones of its repository: some 20 ms."""


@dataclass(frozen=True, slots=True)
class Testimony:
    """Events that name a tag, or a digest as the new or the previous one; ``whole`` is false where there are more."""

    events: tuple[Event, ...]
    whole: bool


class Told(Protocol):
    """Whoever can search what is recorded by now: `immuproxy.audit.Audit`, or a `immuproxy.audit.Visitor`."""

    async def told(self, search: Search, since: int, most: int) -> tuple[Sequence[Event], bool]:
        """Matching events from a time on (ms), newest first, and whether they are all."""


class Witnesses:
    """Asks the record and the outboxes."""

    def __init__(self, store: Store, record: Told) -> None:
        """``record`` is that of ``store``."""
        self._store = store
        self._record = record

    async def of(self, repository: str, digest: str, *, since: int = 0) -> Testimony:
        """All that is recorded of a content by now, from a time on (ms).  Raises `LedgerUnavailableError`."""

        def names(event: Event) -> bool:
            return digest in {event.digest, event.previous_digest}

        return await self._told(repository, names, Search().with_term("digest", digest), since)

    async def of_tag(self, repository: str, tag: str, *, since: int = 0) -> Testimony:
        """The same of a tag."""
        return await self._told(repository, lambda event: event.tag == tag, Search().with_term("tag", tag), since)

    async def _told(self, repository: str, names: Callable[[Event], bool], search: Search, since: int) -> Testimony:
        """The outbox is read first: what is carried over meanwhile is found in the record, perhaps in both."""
        waiting: Any = await self._store.do(self._store.client.xrange(keys.outbox(repository), count=MOST + 1))
        found = [_event(fields) for _, fields in waiting]
        search = replace(search.with_term("repo", repository), since=Moment(since, ""))
        recorded, whole = await self._record.told(search, since, MOST)
        told = {event.id: event for event in (*found, *recorded) if event and names(event)}
        return Testimony(tuple(told.values()), whole=whole and len(waiting) <= MOST)


def _event(fields: dict[bytes, bytes]) -> Event | None:
    """None for what no proxy of this release has written; the projector sets such things aside."""
    try:
        return event_from_dict(json.loads(fields[b"event"]))
    except (ValueError, KeyError, TypeError):
        return None
