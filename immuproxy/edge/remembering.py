"""What is remembered of answers, within a bound."""

from __future__ import annotations

from typing import TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")

MOST = 10_000


def remember(memory: dict[_K, _V], key: _K, value: _V) -> None:
    """Keep at most `MOST`; what was learnt first is forgotten first."""
    memory.pop(key, None)
    if len(memory) >= MOST:
        del memory[next(iter(memory))]
    memory[key] = value
