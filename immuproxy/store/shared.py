"""A question that is asked once for all who want its answer at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """One question.  It goes on when one of those who wait for it leaves."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        """``work`` asks it."""
        self._work = work
        self._asking: asyncio.Task[T] | None = None

    async def ask(self) -> T:
        """The answer to the question that is under way, else to one that begins now; raises what that does."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._work())
            self._asking.add_done_callback(_heard)
        return await asyncio.shield(self._asking)

    async def ask_anew(self) -> T:
        """The same of a question that begins after this call."""
        if self._asking is not None:
            await asyncio.wait([self._asking])
        return await self.ask()

    @property
    def tasks(self) -> set[asyncio.Task[T]]:
        """What is under way, for whoever ends it."""
        return {self._asking} if self._asking else set()


def _heard(task: asyncio.Task[Any]) -> None:
    """Of a question that nobody waits for any more, no failure is told."""
    if not task.cancelled():
        task.exception()
