"""Waiting for a push or delete of the same content to end, where there is no claim that could be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from immuproxy.oci import errors

PAUSE = 0.1
"""Seconds between two tries."""

TRIES = 100

_T = TypeVar("_T")


async def once_free(step: Callable[[], Awaitable[_T | None]], *, others: str) -> _T:
    """What ``step`` gives as soon as it is not None; 503 where ``others`` do not end in ten seconds."""
    for _ in range(TRIES):
        done = await step()
        if done is not None:
            return done
        await asyncio.sleep(PAUSE)
    raise errors.unavailable(f"{others} has not ended yet; try again")
