"""Background work that does one thing after the other, and lets none of them keep it from the rest (H94)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from immuproxy.store.redis import LedgerUnavailableError

log = structlog.get_logger("immuproxy.drift")


async def apart(work: Awaitable[None], alive: Callable[[], Awaitable[object]], **where: str) -> None:
    """Do ``work`` on one item; what goes wrong is told, with ``where`` it was, and the item waits for the next time.

    Raises what ``alive`` raises where the ledger failed: `LedgerUnavailableError` when it is not this item alone.
    """
    try:
        await work
    except LedgerUnavailableError as error:
        await alive()
        log.warning("left for the next time: the ledger does not take it", reason=str(error), **where)
    except Exception:
        log.exception("left for the next time", **where)
