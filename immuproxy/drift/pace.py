"""Politeness: so many questions a second, and no more."""

from __future__ import annotations

import asyncio


class Pace:
    """Lets one question through after the other, evenly."""

    def __init__(self, rate: float) -> None:
        """``rate``: questions in a second, at most."""
        self._gap = 1 / rate
        self._next = 0.0

    async def turn(self) -> None:
        """Wait until the next question may be asked."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        at = max(now, self._next)
        self._next = at + self._gap
        if at > now:
            await asyncio.sleep(at - now)
