"""The names of the Redis keys that are no ledger's: what the console's log-in keeps, and what is tried.

What a log-in keeps has a time to live, where it can.
"""

from __future__ import annotations

PREFIX = "immuproxy:"


def tried(number: int = 0) -> str:
    """String: where the proxy tries what its user may do; gone again in the same step.

    No repository's, whose names hold no colon; other numbers are in other slots of a cluster.
    """
    return f"{PREFIX}{{:{number}}}:tried"


OLD_CONSOLE_KEY = PREFIX + "{console}:key"
"""String: with what an older release signed the console's forms; deleted (`immuproxy.audit.record.old_keys`)."""

BUDGETS = PREFIX + "{console}:budgets"
"""Sorted set: who tried to log in -> when their budget of attempts is full again (ms)."""

UNTOLD = PREFIX + "{console}:untold"
"""Counter: failed log-ins that were left out of the audit because there were too many."""


def session(name: str) -> str:
    """String with a time to live: one session of the console, named by the hash of its secret."""
    return f"{PREFIX}{{console}}:session:{name}"


def places(name: str) -> str:
    """Sorted set with a time to live: networks that one user has logged in from, score = when last (ms)."""
    return f"{PREFIX}{{console}}:places:{name}"
