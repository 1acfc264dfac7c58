"""Removing old events from the record for good, in small steps; what tags hold stays.

The indexes of the proxies let them go as they notice.  A removal that was interrupted can be run again, and watermarks
stay, so nothing comes back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from immuproxy.audit.record import keys
from immuproxy.store.redis import Store

_EVENTS_A_STEP = 1_000


async def prune(store: Store, before: int) -> AsyncIterator[int]:
    """Remove all that entered the audit before a time (ms), oldest first; after each step how many are gone in all.

    Raises `LedgerUnavailableError`.
    """
    removed = 0
    while count := int(await store.script("record_trim", [keys.EVENTS], [before, _EVENTS_A_STEP])):
        removed += count
        yield removed
