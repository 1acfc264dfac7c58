"""Few at once: an answer that costs much, or that never ends, is given to a few visitors, and to each of them seldom.

One visitor can so take what is meant for one, and no more, however often they ask (H88).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from aiohttp import web

from immuproxy.console.access import visit_of
from immuproxy.console.problems import RequestProblem

RETRY_AFTER = 5
"""Seconds after which somebody who was sent away may ask again."""


class Gate:
    """Lets ``most`` be inside at once, and ``each`` of one visitor; ``what`` names them, as in "exports"."""

    def __init__(self, what: str, *, most: int, each: int) -> None:
        """Nobody is inside."""
        self._what, self._most, self._each = what, most, each
        self._inside: Counter[str] = Counter()

    @contextlib.contextmanager
    def passing(self, request: web.Request) -> Iterator[None]:
        """Be inside; raises `RequestProblem` (429) where that is too many."""
        who = _who(request)
        if self._inside[who] >= self._each:
            message = f"You have as many {self._what} open as one visitor may ({self._each})."
            raise self._busy(message, "Wait until one has ended, or end one.")
        if self._inside.total() >= self._most:
            message = f"There are as many {self._what} open as there may be ({self._most})."
            raise self._busy(message, "Try again in a moment.")
        self._inside[who] += 1
        try:
            yield
        finally:
            self._inside -= Counter({who: 1})  # which also forgets those who have left

    def _busy(self, message: str, advice: str) -> RequestProblem:
        return RequestProblem(
            429, "busy", f"Too many {self._what}", message, advice, headers=(("Retry-After", str(RETRY_AFTER)),)
        )


def _who(request: web.Request) -> str:
    """One visitor: by name, else by network."""
    visit = visit_of(request)
    return (visit.viewer.name or visit.reached.network) if visit else ""
