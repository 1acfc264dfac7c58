"""Text of others, made fit to be shown."""

from __future__ import annotations

MAX_SHOWN = 256
"""Characters of an actor or user agent that are kept in an event."""


def printable(text: str) -> str:
    """At most `MAX_SHOWN` characters, without control characters and lone surrogates."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:MAX_SHOWN])
