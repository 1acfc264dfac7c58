"""The record itself: the stream of events, as Redis has it.  What searches it is `immuproxy.audit`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from immuproxy.ledger.audit import cursors, entries, rows
from immuproxy.ledger.audit.cursors import OLDEST, Position
from immuproxy.ledger.audit.project import take
from immuproxy.ledger.model import Event
from immuproxy.ledger.redis import Store

_EVENTS_A_CALL = 500


class Record:
    """The record of one ledger.  All raise `LedgerUnavailableError`."""

    def __init__(self, store: Store) -> None:
        """Nothing is read before the first question."""
        self._store = store

    async def append(self, event: Event) -> bool:
        """Record an event that belongs to no repository; false when it is there already (by its id)."""
        return bool(await take(self._store, "", "", [("", entries.entry(event.to_dict()))]))

    async def end(self) -> Position:
        """The place of the newest event: all that comes later stands behind it."""
        newest = await self._store.do(self._store.client.xrevrange(entries.EVENTS, count=1))
        return cursors.position(newest[0][0]) if newest else OLDEST

    async def newest_first(self) -> AsyncIterator[Event]:
        """Every event, by walking back through the stream; what a newer proxy wrote and this one does not know is left
        out.
        """
        upper = "+"
        while found := await self._store.do(
            self._store.client.xrevrange(entries.EVENTS, upper, "-", count=_EVENTS_A_CALL)
        ):
            for _, fields in found:
                if event := rows.event_of(rows.row(rows.raw_of(fields))):
                    yield event
            upper = str(cursors.before(cursors.position(found[-1][0])))
