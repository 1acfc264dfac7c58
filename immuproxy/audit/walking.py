"""The stream itself as a witness, for as long as the index cannot be asked (H133)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic

from immuproxy.audit.search import Search
from immuproxy.audit.visiting import Visitor
from immuproxy.ledger.model import Event
from immuproxy.store.redis import Store

SECONDS = 10.0
"""What one walk may take: some 200,000 events on a busy machine, several times as many on another."""

RESTS = 600.0
"""Seconds after a walk that was too long for that, in which none is begun that goes back as far."""


class StreamWalk:
    """Walks back by all that is recorded, as often as it is asked."""

    def __init__(self, store: Store) -> None:
        """Shared by all who ask."""
        self._visitor = Visitor(store, None)
        self._too_far = -1
        """No walk goes back to this time (ms) or farther before the next moment."""
        self._again = 0.0

    async def told(self, search: Search, since: int, most: int) -> tuple[Sequence[Event], bool]:
        """As `immuproxy.audit.Audit.told`; raises `TimeoutError`, too, at once where that is known beforehand."""
        if since <= self._too_far and monotonic() < self._again:
            raise TimeoutError
        try:
            async with asyncio.timeout(SECONDS):
                return await self._visitor.told(search, since, most)
        except TimeoutError:
            self._too_far, self._again = since, monotonic() + RESTS
            raise
