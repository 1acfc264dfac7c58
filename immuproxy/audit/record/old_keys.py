"""What older releases kept beside the record to search it, and the key that signed the console's forms: deleted, a
little at a time, while all else goes on.

An older proxy that still runs writes some of it anew, until it is replaced, too.
"""

from __future__ import annotations

import asyncio

import structlog

from immuproxy.audit.record import keys
from immuproxy.store.keys import OLD_CONSOLE_KEY
from immuproxy.store.redis import LedgerUnavailableError, Store

log = structlog.get_logger("immuproxy.ledger")

_KEPT = frozenset(name.encode() for name in (keys.EVENTS, keys.WATERMARK, keys.OLD_WATERMARK, keys.UNREADABLE))
_KEYS_A_STEP = 1_000
"""Keys that are looked at in one call: less than a millisecond of Redis."""

AGAIN = 60.0
"""Seconds after which it is tried again where something hinders it."""

EVERY = 86_400.0
"""Seconds between two looks at all keys."""

PAUSE = 0.01
"""Seconds between two calls."""


async def delete_old_keys(store: Store) -> int:
    """Go through all keys of Redis once; how many were deleted.  Raises `LedgerUnavailableError`."""
    deleted, cursor = int(await store.do(store.client.unlink(OLD_CONSOLE_KEY))), 0
    while True:
        cursor, found = await store.scan(keys.AUDIT + "*", at=keys.EVENTS, cursor=cursor, count=_KEYS_A_STEP)
        if old := [name for name in found if name not in _KEPT]:
            deleted += int(await store.do(store.client.unlink(*old)))
        if not cursor:
            return deleted
        await asyncio.sleep(PAUSE)


async def keep_deleted(store: Store) -> None:
    """The same at once and then once a day, for ever: cancel it to stop.  What hinders it is said."""
    while True:
        try:
            if deleted := await delete_old_keys(store):
                log.info("deleted what an older release kept", keys=deleted)
        except LedgerUnavailableError as error:
            log.warning("what an older release kept is not deleted", error=str(error))
            await asyncio.sleep(AGAIN)
        else:
            await asyncio.sleep(EVERY)
