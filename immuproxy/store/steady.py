"""This process' own clock, which only grows and jumps with nobody else's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


def now() -> float:
    """Seconds by the clock of the running loop; from when on they count means nothing."""
    return asyncio.get_running_loop().time()


@dataclass(frozen=True, slots=True)
class Sample:
    """What a Redis said (ms), and between which times of the own clock (seconds) it did."""

    now: int
    asked: float
    answered: float
