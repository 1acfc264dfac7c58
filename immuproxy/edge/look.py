"""Looks at the ledger that are shared by all who read at the same time.

Whoever asks gets what a look shows that *began after they asked*, so never something from before: what a tag holds may
have been changed through another proxy at any moment.  While a look is under way those who come gather, and the next
one asks for all their places in one pipeline.  So a thousand reads cost a few round trips, and each is as true as if it
had asked alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Generic, TypeVar

from immuproxy.ledger.reader import Place

V = TypeVar("V")

MOST = 256
"""Places that one look asks for; what does not fit is asked for by the next one."""

PATIENCE = 0.05
"""Seconds after which the next look begins although the last one is under way: so a connection that hangs holds up only
those who asked over it, and a Redis that is frozen is waited for once and not twice.
"""


class Looks(Generic[V]):
    """One question of the ledger about places, such as the record of a tag."""

    def __init__(
        self,
        look: Callable[[Sequence[Place]], Awaitable[Sequence[V]]],
        *,
        most: int = MOST,
        shard: Callable[[Place], str] = lambda _: "",
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        """``look`` asks it of up to ``most`` places; what it raises, all hear who wait for that look.

        ``shard``: on which node of a cluster a place is; nobody waits for a look at another node.
        ``begun`` is told of each look.
        """
        self._look = look
        self._most = most
        self._shard = shard
        self._begun = begun
        self._lines: dict[str, _Line[V]] = {}

    async def at(self, place: Place) -> V:
        """What a look shows at ``place`` that begins after this call.  Who leaves takes it from nobody else."""
        shard = self._shard(place)
        line = self._lines.get(shard)
        if line is None:
            line = self._lines[shard] = _Line(self._asked, self._most)
        return await asyncio.shield(line.join(place))

    async def _asked(self, places: Sequence[Place]) -> Sequence[V]:
        self._begun()
        return await self._look(places)


class _Line(Generic[V]):
    """Those who wait for the next look at one node."""

    def __init__(self, look: Callable[[Sequence[Place]], Awaitable[Sequence[V]]], most: int) -> None:
        self._look = look
        self._most = most
        self._gathered: dict[Place, asyncio.Future[V]] = {}
        self._newest: asyncio.Task[None] | None = None
        self._next: asyncio.TimerHandle | None = None

    def join(self, place: Place) -> asyncio.Future[V]:
        answer = self._gathered.get(place)
        if answer is None:
            answer = self._gathered[place] = asyncio.get_running_loop().create_future()
            self._plan()
        return answer

    def _plan(self) -> None:
        """The next look: at once, when the newest ends, or when that has taken too long."""
        if self._next is None:
            wait = PATIENCE if self._newest else 0.0
            self._next = asyncio.get_running_loop().call_later(wait, self._begin)

    def _begin(self) -> None:
        if self._next:
            self._next.cancel()
            self._next = None
        taken = {place: self._gathered.pop(place) for place in list(islice(self._gathered, self._most))}
        self._newest = asyncio.create_task(self._ask(taken)) if taken else None
        if self._newest:
            self._newest.add_done_callback(self._ended)
        if self._gathered:
            self._plan()

    def _ended(self, look: asyncio.Task[None]) -> None:
        if look is self._newest:
            self._begin()

    async def _ask(self, taken: dict[Place, asyncio.Future[V]]) -> None:
        try:
            found = await self._look(list(taken))
            for answer, value in zip(taken.values(), found, strict=True):
                answer.set_result(value)
        except asyncio.CancelledError:
            for answer in taken.values():
                answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001  # all of them raise it
            for answer in taken.values():
                _fail(answer, error)


def _fail(answer: asyncio.Future[V], error: Exception) -> None:
    answer.set_exception(error)
    answer.exception()  # where nobody waits any more, nobody is missed
