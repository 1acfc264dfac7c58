"""How the index stands, looked at every few seconds, for the metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from immuproxy.audit import schema
from immuproxy.audit.audit import Audit
from immuproxy.audit.deadline import OutOfTimeError
from immuproxy.audit.follow import Follower
from immuproxy.audit.index import IndexDamagedError
from immuproxy.store.redis import LedgerUnavailableError

EVERY = 5.0
"""Seconds between two looks."""


@dataclass(frozen=True, slots=True)
class IndexState:
    """``events`` that can be searched; ``lag`` in seconds from the newest of them to the newest that is recorded.

    ``whole``: all that is recorded can be searched.
    """

    events: int = 0
    lag: float = 0.0
    whole: bool = False


async def watch(audit: Audit, follower: Follower, told: Callable[[IndexState], None]) -> None:
    """Tell it until cancelled."""
    while True:
        with suppress(OutOfTimeError):  # too busy to count: what was told last stays
            told(await standing(audit, follower))
        await asyncio.sleep(EVERY)


async def standing(audit: Audit, follower: Follower) -> IndexState:
    """One look; an index that cannot be asked holds nothing.  Raises `OutOfTimeError`."""
    try:
        reach, events = await audit.reach(), await audit.total()
    except IndexDamagedError:
        return IndexState()
    try:
        lag = (schema.ms_of(await follower.end()) - reach.until) / 1000 if reach.until is not None else 0.0
    except LedgerUnavailableError:
        return IndexState(events)
    return IndexState(events, lag, reach.complete and reach.until is None and not reach.failure)
