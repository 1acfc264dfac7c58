"""The registry is asked behind an answer from memory, so that readers notice drift as they do where it is asked before
(H28).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

from cachetools import TTLCache

from immuproxy.edge.answers import Answer
from immuproxy.edge.caller import Caller
from immuproxy.edge.upstream import UpstreamUnavailableError
from immuproxy.ledger.model import Committed, TagRecord
from immuproxy.ledger.reader import Place
from immuproxy.oci.errors import OciError
from immuproxy.oci.routes import Operation
from immuproxy.store.redis import LedgerUnavailableError

EVERY = 10.0
"""Seconds in which one tag is asked for once: a tag that is read all the time is wrong at the registry for about that
long, and a thousand such tags cost the registry no more than a hundred reads a second.
"""

AT_ONCE = 8
"""Of the 64 connections that the registry is asked for manifests with."""

MOST = 10_000
"""Tags that are remembered."""

Ask = Callable[[Operation, Caller, TagRecord, Committed], Awaitable[Answer]]


class SecondLooks:
    """Looks in the background; what does not fit is left to the next reader, and to the sweep."""

    def __init__(self, ask: Ask, *, every: float = EVERY) -> None:
        """``ask`` reads a tag from the registry, and reports what differs."""
        self._ask = ask
        self._asked: TTLCache[Place, bool] = TTLCache(MOST, every)
        self._under_way: set[asyncio.Task[None]] = set()

    def after(self, operation: Operation, caller: Caller, found: TagRecord, held: Committed) -> None:
        """The tag was just read by ``caller``, with whose rights the registry is asked; does not wait."""
        place = (found.repository, found.tag)
        if place in self._asked or len(self._under_way) >= AT_ONCE:
            return
        self._asked[place] = True
        look = asyncio.create_task(self._look(replace(operation, method="GET"), caller, found, held))
        self._under_way.add(look)
        look.add_done_callback(self._under_way.discard)

    async def ended(self) -> None:
        """Give up what is under way."""
        looks = list(self._under_way)
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)

    async def _look(self, operation: Operation, caller: Caller, found: TagRecord, held: Committed) -> None:
        """A GET, because the answer to HEAD may be about bytes that are gone (H25)."""
        with suppress(LedgerUnavailableError, UpstreamUnavailableError, OciError):
            await self._ask(operation, caller, found, held)
