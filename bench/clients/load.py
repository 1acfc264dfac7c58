"""What a client that asks without a pause was answered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """``refused`` counts answers of 400 and above, ``broken`` connections."""

    requests: int
    seconds: float
    median_ms: float
    refused: int = 0
    broken: int = 0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds
