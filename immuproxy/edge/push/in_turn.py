"""Pushes of one moving tag go one after the other, so that the audit tells them in the registry's own order (H116).

The registry takes racing pushes of a tag in an order that it tells nobody: whose PUT is answered first is not whose
content the tag holds in the end, and all of them would name what they saw at first as the digest before.  So one look,
PUT and outcome ends before the next begins, in the order in which the pushes came.  That holds within one proxy; the
ledger is not asked, because a lease would have to outlast the slowest PUT of a proxy that may have died.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field

from immuproxy.oci import errors

Waits = Callable[[], AbstractContextManager[None]]
"""Makes what a push waits in: it ends with the push's client, by raising `ConnectionResetError`."""


@dataclass(slots=True)
class _Place:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    pushes: int = 0


class InTurn:
    """One queue for each tag that is being pushed; nothing is kept of any other."""

    def __init__(self, longest: float) -> None:
        """``longest``: seconds that a push may wait for its turn."""
        self._longest = longest
        self._places: dict[tuple[str, str], _Place] = {}

    def __len__(self) -> int:
        """How many pushes have their turn or wait for it."""
        return sum(place.pushes for place in self._places.values())

    @asynccontextmanager
    async def alone(self, repository: str, tag: str, waits: Waits) -> AsyncIterator[None]:
        """What runs in here runs while no other push of the tag does.

        Raises 503 where its turn does not come in time, and what ``waits`` raises where the client does not wait for
        it (a push that has its turn comes to its end without a client, H47).
        """
        name = (repository, tag)
        place = self._places.setdefault(name, _Place())
        place.pushes += 1
        try:
            await self._turn(place, f"{repository}:{tag}", waits)
            try:
                yield
            finally:
                place.lock.release()
        finally:
            place.pushes -= 1
            if not place.pushes:
                del self._places[name]

    async def _turn(self, place: _Place, name: str, waits: Waits) -> None:
        """The lock lets in whoever came first: where it is free and somebody is here, it is theirs next (H120)."""
        if place.pushes == 1:
            await place.lock.acquire()
            return
        try:
            with waits():
                async with asyncio.timeout(self._longest):
                    await place.lock.acquire()
        except TimeoutError:
            raise errors.unavailable(f"another push of {name} has not ended yet; try again") from None
