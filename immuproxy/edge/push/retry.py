"""Steps of the ledger that may be repeated, and are repeated where a reply was lost on the way (H65)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from immuproxy.edge.push.attempt import FIRST_WAIT
from immuproxy.ledger.model import Reply
from immuproxy.store.redis import LedgerUnavailableError

AT_ONCE = 0.2
"""Seconds within which a connection breaks, rather than Redis being silent."""

COMMIT_TRIES = 3

AnyReply = TypeVar("AnyReply", bound=Reply)


async def once_more(step: Callable[[], Awaitable[AnyReply]]) -> AnyReply:
    """A step that may be repeated, once more where the connection broke at once: it may have been taken, and its claim
    would stand until the lease has passed (H65).  A Redis that does not answer is not asked again.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    try:
        return await step()
    except LedgerUnavailableError:
        if clock() - began > AT_ONCE:
            raise
    await asyncio.sleep(FIRST_WAIT)
    return await step()


async def insist(step: Callable[[], Awaitable[Reply]]) -> Reply:
    """A step that may be repeated, a few times: its reply may have been lost on the way (H65)."""
    for _ in range(COMMIT_TRIES - 1):
        try:
            return await step()
        except LedgerUnavailableError:
            await asyncio.sleep(FIRST_WAIT)
    return await step()
