"""This process' own clock, which only grows and jumps with nobody else's."""

from __future__ import annotations

import asyncio


def now() -> float:
    """Seconds by the clock of the running loop; from when on they count means nothing."""
    return asyncio.get_running_loop().time()
