"""Politeness: so many questions a second, and no more."""

from __future__ import annotations

import asyncio


class Allowance:
    """So much in a second, and no more than a moment's worth at once; what is over it is not waited for."""

    def __init__(self, rate: float, most: float) -> None:
        """``rate``: in a second; ``most``: at once."""
        self._rate, self._most = rate, most
        self._left, self._at = most, 0.0

    def take(self, amount: float) -> bool:
        """Whether there is so much left; if so, it is taken."""
        now = asyncio.get_running_loop().time()
        self._left, self._at = min(self._most, self._left + (now - self._at) * self._rate), now
        if amount > self._left:
            return False
        self._left -= amount
        return True


class RateLimit:
    """Lets one question through after the other, evenly."""

    def __init__(self, rate: float) -> None:
        """``rate``: questions in a second, at most."""
        self._gap = 1 / rate
        self._next = 0.0

    async def turn(self, weight: float = 1.0) -> None:
        """Wait until the next question may be asked; it counts as ``weight`` of them."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        at = max(now, self._next)
        self._next = at + self._gap * weight
        if at > now:
            await asyncio.sleep(at - now)
