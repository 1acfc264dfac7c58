"""Who may ask Redis now: so many at once, and the others in the order in which they came (H82).

redis-py has no queue for all the forms of Redis: where all connections are taken, the pools of a single server, of
Sentinel and of each node of a cluster raise an error that looks like a Redis that is away; its blocking pool serves the
first form only, and not in order.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import RedisClusterException, ResponseError
from redis.exceptions import TimeoutError as ReplyTimeoutError

from immuproxy.store import steady

AT_ONCE = 64
"""Commands under way; each takes one connection, in a cluster at most one to each node."""

LONGEST = 30.0
"""Seconds that a command waits for its turn, for as long as Redis answers others."""

_BEAT = 0.02
_UNANSWERED = (ReplyTimeoutError, MasterNotFoundError, RedisClusterException)


class OverloadedError(Exception):
    """Redis was not asked, or its answer not heard, for want of time on this side."""


class SilenceError(Exception):
    """Redis answered nobody of those who were in front, in all the time that a reply may take."""


def _nobody(_seconds: float) -> None:
    pass


class Turns:
    """Gives turns, and remembers whether Redis answered those who had one."""

    def __init__(
        self, at_once: int = AT_ONCE, longest: float = LONGEST, answered: Callable[[float], None] = _nobody
    ) -> None:
        """``answered`` is told the seconds that each answer took, without the wait for the turn."""
        self._at_once = at_once
        self._free = asyncio.Semaphore(at_once)
        self._longest = longest
        self._told = answered
        self._lateness = _Lateness()
        self._last_answer = -math.inf
        self._silent_at = -math.inf

    def beside(self) -> Turns:
        """As many again, for what may take long: nothing here waits behind it."""
        return Turns(self._at_once, self._longest, self._told)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """The body asks Redis once; raises `OverloadedError`, `SilenceError`.

        Where Redis answers nobody, those who wait hear it with those who asked, and not one lot after the other.
        """
        await self._take()
        began, late = steady.now(), self._lateness.begin()
        try:
            yield
        except ResponseError:
            self._answered(began)
            raise
        except _UNANSWERED as error:
            if self._lateness.total - late > (steady.now() - began) / 2:
                raise OverloadedError("the proxy itself stood still meanwhile") from error
            if self._last_answer < began:
                self._silent_at = steady.now()
            raise
        else:
            self._answered(began)
        finally:
            self._lateness.end()
            self._free.release()

    async def _take(self) -> None:
        if not self._free.locked():
            await self._free.acquire()  # at once
            return
        came = steady.now()
        try:
            async with asyncio.timeout(self._longest):
                await self._free.acquire()
        except TimeoutError:
            raise OverloadedError(f"no turn to ask it came within {self._longest:g} s") from None
        if self._silent_at > came:
            self._free.release()
            raise SilenceError("it does not answer in time")

    def _answered(self, began: float) -> None:
        self._last_answer = steady.now()
        self._told(self._last_answer - began)


class _Lateness:
    """How late the loop has been in all, in seconds, while anybody waits for Redis.

    A reply that comes while the loop stands still is read no more once its time is over: asyncio ends the wait first.
    """

    def __init__(self) -> None:
        self.total = 0.0
        self._waiting = 0
        self._due = math.inf

    def begin(self) -> float:
        self._waiting += 1
        if self._due == math.inf:
            self._next()
        return self.total

    def end(self) -> None:
        self._waiting -= 1

    def _next(self) -> None:
        self._due = steady.now() + _BEAT
        asyncio.get_running_loop().call_at(self._due, self._beat)

    def _beat(self) -> None:
        self.total += steady.now() - self._due
        self._due = math.inf
        if self._waiting:
            self._next()
