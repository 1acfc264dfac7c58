"""Ending what works with Redis: redis-py swallows a cancellation that meets a connection just dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN = 0.5
"""Seconds after which a task that goes on is cancelled once more."""


def is_wanted() -> bool:
    """Whether nobody has cancelled the running task; to be asked behind whatever may have swallowed that."""
    task = asyncio.current_task()
    return task is None or not task.cancelling()


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel, again and again, until all of them have ended, however they did."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN)
