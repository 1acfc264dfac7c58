"""The ids of events, made where the event begins.  Reads the clock."""

from __future__ import annotations

import secrets
import time


def new_event_id() -> str:
    """22 hexadecimal digits: milliseconds, then 40 random bits; sorts by time."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(5)}"
