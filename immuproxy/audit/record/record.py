"""Writing into the record what belongs to no repository, and so stands in no outbox: log-ins, rules, removals."""

from __future__ import annotations

from immuproxy.audit.record.project import take
from immuproxy.audit.record.rows import entry
from immuproxy.ledger.model import Event
from immuproxy.store.redis import Store


class Record:
    """The record of one ledger."""

    def __init__(self, store: Store) -> None:
        """Nothing is asked before the first event."""
        self._store = store

    async def append(self, event: Event) -> bool:
        """Record an event; false when it is there already (by its id).  Raises `LedgerUnavailableError`."""
        added, _ = await take(self._store, "", [entry(event.to_dict())])
        return added > 0
