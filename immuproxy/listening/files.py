"""How many files the process may have open, which bounds its connections (H89)."""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable

import structlog

log = structlog.get_logger("immuproxy")

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What the system says where it has no room for another connection."""

EVERY = 60.0
"""Seconds between two messages that files ran out."""

FOR_EDGE, FOR_CONSOLE = 0.3, 0.1
"""Shares of all files; the rest is for the upstream (one for each request, and what moves blobs), Redis and files."""

MOST = 20_000
"""Connections of one listener, however many files there may be: each takes some 20 KiB."""


def raise_limit() -> int:
    """Raise the soft limit to the hard one, which needs no privilege; the limit from then on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:  # the system's own limit may be lower by now
        log.warning("the limit of open files cannot be raised", limit=soft, reason=str(error))
        return soft
    return hard


def room(share: float) -> int:
    """How many connections a listener may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else min(MOST, int(share * soft))


class Shortage:
    """Says that no connection can be taken, once a minute."""

    def __init__(self, listener: str, clock: Callable[[], float]) -> None:
        """``clock`` in seconds."""
        self._listener = listener
        self._clock = clock
        self._next = clock()
        self._times = 0

    def met(self, error: OSError) -> None:
        """A connection was not taken."""
        self._times += 1
        if self._clock() < self._next:
            return
        log.error(
            "no new connection can be taken; raise the limit of open files",
            listener=self._listener,
            reason=error.strerror,
            times=self._times,
        )
        self._next, self._times = self._clock() + EVERY, 0
