"""What each rule holds.  PURE."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Count:
    """Tags and repositories by the name of the rule that decides about them, by the rules with this digest, at a time
    (ms).
    """

    rules: str
    at: int
    tags: Counter[str] = field(default_factory=Counter)
    repositories: Counter[str] = field(default_factory=Counter)
