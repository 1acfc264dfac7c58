"""The registry is asked behind an answer, so that drift is noticed as where it is asked before one (H28).

Behind a read from memory, and behind a push that the registry said it took.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from cachetools import TTLCache

from immuproxy.edge.upstream import UpstreamUnavailableError
from immuproxy.ledger.reader import Place
from immuproxy.oci.errors import OciError
from immuproxy.store.redis import LedgerUnavailableError

EVERY = 10.0
"""Seconds in which one tag is asked for once: a tag that is read all the time is wrong at the registry for about that
long, and a thousand such tags cost the registry no more than a hundred reads a second.
"""

AT_ONCE = 8
"""Of the 64 connections that the registry is asked for manifests with; behind reads."""

BEHIND_PUSHES = 1
"""Behind pushes, which the registry has just said it took: as one looks after the other, many pushes cost few looks."""

MOST = 10_000
"""Tags that are remembered."""

Ask = Callable[[], Awaitable[object]]


class SecondLooks:
    """Looks in the background; what does not fit is left to the next reader, and to the sweep."""

    def __init__(self, at_once: int, *, every: float = EVERY) -> None:
        """``at_once``: looks under way; ``every``: seconds in which a tag is looked at once."""
        self._at_once = at_once
        self._asked: TTLCache[Place, bool] = TTLCache(MOST, every)
        self._under_way: set[asyncio.Task[None]] = set()

    def after(self, place: Place, ask: Ask) -> None:
        """The tag was just read or set; ``ask`` reads it from the registry and reports what differs.  Does not wait."""
        if place in self._asked or len(self._under_way) >= self._at_once:
            return
        self._asked[place] = True
        look = asyncio.create_task(_look(ask))
        self._under_way.add(look)
        look.add_done_callback(self._under_way.discard)

    async def ended(self) -> None:
        """Give up what is under way."""
        looks = list(self._under_way)
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)


async def _look(ask: Ask) -> None:
    with suppress(LedgerUnavailableError, UpstreamUnavailableError, OciError):
        await ask()
