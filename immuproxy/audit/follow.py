"""From the stream of events in Redis into the index: what is new at once, what is old newest first, until all is there.

The last event that was taken has to be the first one that is read next; where it is not, Redis came back with another
past (`immuproxy.audit.past`), and the index is built anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic

from immuproxy.audit import past, stream
from immuproxy.audit.index import Index, IndexDamagedError, IndexFullError
from immuproxy.audit.stream import Raw
from immuproxy.audit.writing import Writer
from immuproxy.ledger.redis import LedgerUnavailableError, Store

BATCH = 1_000
"""Events that are read and taken at once."""

MOST_UNCOMMITTED = 20_000
"""Old events that searches do not see yet, at most; a commit writes each page that they touched once."""

_SHARE = 4
"""They are at most that part of what searches see."""

_PAUSE = 0.03
"""Seconds after each batch of old events, at most."""

FORGOTTEN = 200
"""Events that are taken out at once."""


def _nobody(_: Exception) -> None:
    """Failures are tried again anyway."""


class Follower:
    """Keeps an index up to date with the stream."""

    def __init__(
        self,
        store: Store,
        index: Index,
        *,
        retry_seconds: float = 1.0,
        on_failure: Callable[[Exception], None] = _nobody,
    ) -> None:
        """``on_failure`` is told of each failed try: of Redis, or of a full disk."""
        self._store = store
        self._index = index
        self._retry_seconds = retry_seconds
        self._on_failure = on_failure
        self._looked = asyncio.Condition()
        self._seen = 0
        self._committed = self._uncommitted = 0
        self._doubtful = True
        self._followed = False
        """Whether the last step took all that was new, and nothing else is left to do: no other one has to look."""
        self.bounded = False
        """Whether an index in memory has no room for older events."""
        self.behind = True
        """Whether events may be recorded that are newer than those that were taken, other than of this moment."""
        self._failed: Exception | None = None

    async def run(self) -> None:
        """Work until cancelled; Redis being away, and a disk that takes nothing, are waited out."""
        while True:
            try:
                worked = await self.step()
                await self._recover()
                if not worked or self._followed:
                    await self._wait_for_news()
            except (LedgerUnavailableError, IndexFullError, IndexDamagedError) as error:
                self._on_failure(error)
                await self._fail(error)
                await asyncio.sleep(self._retry_seconds)
            except Exception as error:  # a fault of ours: nothing is taken until it has passed, and that is said
                await self._fail(IndexDamagedError(str(error)))
                raise

    async def step(self) -> bool:
        """Take some of what is missing, and let go some of what is gone; false where there is neither."""
        behind, self._followed = self.behind, False
        low, high, complete = await self._index.write(Writer.state, commit=False)
        if high is None or low is None:
            worked = await self._begin()
            if not (worked or complete):
                await self._tell()  # that there is nothing is news, too
        else:
            worked = await self._forward(low, high)
            worked = (not complete and await self._back(low)) or worked
            forgot = await self._let_go(low, complete=complete)
            self._followed = complete and not (forgot or self.behind)
            worked = forgot or worked
        if worked or self.behind != behind:
            await self._tell()
        return worked

    @property
    def seen(self) -> int:
        """Grows with each change of the index, and with each failure; for `change`."""
        return self._seen

    @property
    def failed(self) -> Exception | None:
        """What keeps the index from following at this moment."""
        return self._failed

    async def change(self, seen: int) -> None:
        """Return when the index has changed since it was `seen`."""
        async with self._looked:
            await self._looked.wait_for(lambda: self._seen != seen)

    async def end(self, upper: int | None = None) -> int:
        """The place of the newest event that is recorded, at or below ``upper``; 0 where there is none.

        Raises `LedgerUnavailableError`.
        """
        newest = await stream.newest_first(self._store, upper, 0, 1)
        return newest[0][0] if newest else 0

    async def _fail(self, error: Exception) -> None:
        self._failed, self._doubtful = error, True
        await self._tell()

    async def _recover(self) -> None:
        if self._failed is not None:
            self._failed = None
            await self._tell()

    async def _tell(self) -> None:
        async with self._looked:
            self._seen += 1
            self._looked.notify_all()

    async def _begin(self) -> bool:
        newest = (await stream.newest_first(self._store, None, 0, BATCH))[::-1]
        complete = len(newest) < BATCH
        await self._index.write(lambda writer: writer.take(newest, complete=complete))
        self.behind = self.bounded = False
        return bool(newest)

    async def _forward(self, low: int, high: int) -> bool:
        found = await stream.oldest_first(self._store, high, BATCH + 1)
        if not await self._is_as_read(low, high, found):
            await self._index.begin_anew("the stream of events is another one than before")
            return True
        self._doubtful = False
        if found[1:]:
            await self._take(found[1:])
        self.behind = len(found) > BATCH
        return bool(found[1:])

    async def _is_as_read(self, low: int, high: int, found: Sequence[Raw]) -> bool:
        """Whether the stream still has what was read from it; ``found`` is what it has from ``high`` on."""
        if not found or found[0][0] != high:
            return False
        known = found[:1]
        if self._doubtful:
            known = (await stream.newest_first(self._store, high, low, past.COMPARED))[::-1]
        return await self._has(known) and (not found[1:] or await self._are_new(found[1:]))

    async def _has(self, entries: Sequence[Raw]) -> bool:
        same = partial(past.is_as_read, entries=entries)
        return bool(entries) and await self._index.write(lambda writer: writer.ask(same), commit=False)

    async def _are_new(self, entries: Sequence[Raw]) -> bool:
        """Or, where they were read elsewhere, whether the stream has them there still, and so twice."""
        places = partial(past.places_of, entries=entries)
        for place in await self._index.write(lambda writer: writer.ask(places), commit=False):
            if not await self._has(await stream.newest_first(self._store, place, place, 1)):
                return False
        return True

    async def _take(self, batch: Sequence[Raw]) -> None:
        try:
            await self._index.write(lambda writer: writer.take(batch))
        except IndexFullError:
            if not self._index.in_memory:
                raise
            await self._index.begin_anew("it has grown to its bound in memory")

    async def _back(self, low: int) -> bool:
        """Half of what an index may take in memory is kept for news."""
        bounded, self.bounded = self.bounded, await self._index.is_half_full()
        if self.bounded != bounded:
            await self._tell()
        if self.bounded:
            return False
        begun = monotonic()
        older = (await stream.newest_first(self._store, low - 1, 0, BATCH))[::-1]
        complete = len(older) < BATCH
        self._uncommitted += len(older)
        commit = complete or self._uncommitted >= min(MOST_UNCOMMITTED, self._committed // _SHARE)
        await self._index.write(lambda writer: writer.take(older, complete=complete), commit=commit)
        if commit:
            self._committed, self._uncommitted = self._committed + self._uncommitted, 0
        await asyncio.sleep(min(monotonic() - begun, _PAUSE))  # pulls and pushes share the processor with it
        return True

    async def _let_go(self, low: int, *, complete: bool) -> bool:
        """What was pruned from the stream goes from here, too; in an older copy of it that is there again."""
        first = await stream.oldest_first(self._store, 0, 1)
        if not first:
            return False
        before = first[0][0]
        if complete and before < low:
            await self._index.write(Writer.reopen)
            return True
        return bool(await self._index.write(lambda writer: writer.forget(before, FORGOTTEN)))

    async def _wait_for_news(self) -> None:
        _, high, _ = await self._index.write(Writer.state)
        await stream.wait_for_news(self._store, high or 0)
