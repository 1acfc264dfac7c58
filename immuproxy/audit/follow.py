"""From the stream of events in Redis into the index: what is new at once, what is old newest first, until all is there.

The last event that was taken has to be the first one that is read next; where it is not, Redis came back with another
past (`immuproxy.audit.past`), and the index is built anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from time import monotonic

from immuproxy.audit import past, stream
from immuproxy.audit.index import Index, IndexDamagedError, IndexFullError
from immuproxy.audit.stream import Raw
from immuproxy.audit.writing import Writer
from immuproxy.store.redis import LedgerUnavailableError, Store

BATCH = 1_000
"""Events that are read and taken at once."""

MOST_UNCOMMITTED = 20_000
"""Old events that searches do not see yet, at most; a commit writes each page that they touched once."""

_SHARE = 4
"""They are at most that part of those that were committed since the index was begun, or last failed: then the first
batch is, or it would not be known that the failure is over.
"""

_PAUSE = 0.03
"""Seconds after each batch of old events, at most."""

FORGOTTEN = 200
"""Events that are taken out at once."""

GATHERED = 0.07
"""Seconds from one look at what is new to the next: what comes meanwhile is taken together."""

CHECKED = 1.0
"""Seconds after which it is looked, without news, whether stream and files are still the same, and what was pruned."""

TOLD_AGAIN = 300.0
"""Seconds after which a failure that lasts is told once more."""


def _nobody(_: Exception | None) -> None:
    """Failures are tried again anyway."""


class Follower:
    """Keeps an index up to date with the stream."""

    def __init__(
        self,
        store: Store,
        index: Index,
        *,
        retry_seconds: float = 1.0,
        on_failure: Callable[[Exception | None], None] = _nobody,
    ) -> None:
        """``on_failure`` is told why nothing is taken, at once and every few minutes; of None when that is over."""
        self._store = store
        self._index = index
        self._retry_seconds = retry_seconds
        self._on_failure = on_failure
        self._told, self._told_at = "", -inf
        self._looked = asyncio.Condition()
        self._seen = 0
        self._begun = 0
        """The index (`Index.begun`) of which the next three are known; 0: of none."""
        self._low: int | None = None
        self._high: int | None = None
        self._complete = False
        self._committed = self._uncommitted = 0
        self._doubtful = self._more = True
        self._forgot = False
        self.bounded = False
        """Whether an index in memory has no room for older events."""
        self.behind = True
        """Whether events may be recorded that are newer than those that were taken, other than of this moment."""
        self._failed: Exception | None = None

    async def run(self) -> None:
        """Work until cancelled; Redis being away, and a disk that takes nothing, are waited out.

        So is a fault of ours, but it is raised first, and again every few minutes: call it again then.
        """
        due = -inf
        while True:
            try:
                check = self._forgot or monotonic() >= due
                due = monotonic() + CHECKED if check else due
                worked = await self.step(check=check)
                await self._recover()
                if not (worked and self._more):
                    await self._wait_for_news(GATHERED if worked else 0, due)
            except (LedgerUnavailableError, IndexDamagedError) as error:
                if self._is_news(error):
                    self._on_failure(error)
                await self._fail(error)
                await asyncio.sleep(self._retry_seconds)
            except Exception as error:  # a fault of ours: nothing is taken until it has passed, and that is said
                await self._fail(IndexDamagedError(str(error) or repr(error)))
                if self._is_news(error):
                    raise
                await asyncio.sleep(self._retry_seconds)

    async def step(self, *, check: bool = True) -> bool:
        """Take some of what is missing, and let go some of what is gone; false where there is neither.

        ``check``: look for what is gone at all, be it events of the stream or the files of the index.
        """
        behind, self._forgot = self.behind, False
        if check:
            await self._index.look_after()
        if self._begun != self._index.begun:
            self._begun, self._committed, self._uncommitted = self._index.begun, 0, 0
            await self._look()
        if self._low is None or self._high is None:
            worked = await self._begin()
        else:
            worked = await self._forward(self._low, self._high)
            if self._begun and not self._complete:
                worked = await self._back(self._low) or worked
            if self._begun and check:
                self._forgot = await self._let_go(self._low)
        worked = worked or self._forgot
        self._more = not self._begun or self.behind or self._forgot or not (self._complete or self.bounded)
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
        return await stream.newest_place(self._store, upper)

    def _is_news(self, error: Exception) -> bool:
        """Whether it is to be told: it is another one, or a long time has passed."""
        if repr(error) == self._told and monotonic() < self._told_at + TOLD_AGAIN:
            return False
        self._told, self._told_at = repr(error), monotonic()
        return True

    async def _fail(self, error: Exception) -> None:
        self._failed = error
        self._doubtful = self.behind = True
        self._begun = 0
        await self._tell()

    async def _recover(self) -> None:
        if self._failed is not None:
            self._failed, self._told = None, ""
            self._on_failure(None)
            await self._tell()

    async def _tell(self) -> None:
        async with self._looked:
            self._seen += 1
            self._looked.notify_all()

    async def _look(self) -> None:
        self._low, self._high, self._complete = await self._index.write(Writer.state, commit=False)

    async def _begin(self) -> bool:
        newest = (await stream.newest_first(self._store, None, 0, BATCH))[::-1]
        was_complete, self._complete = self._complete, len(newest) < BATCH
        await self._index.write(lambda writer: writer.take(newest, complete=self._complete))
        self.behind = self.bounded = False
        if newest:
            self._low, self._high = newest[0][0], newest[-1][0]
        elif not was_complete:
            await self._tell()  # that there is nothing is news, too
        return bool(newest)

    async def _forward(self, low: int, high: int) -> bool:
        found = await stream.oldest_first(self._store, high, BATCH + 1)
        try:
            is_taken = await self._is_taken(low, high, found)
        except IndexFullError:
            if not self._index.in_memory:
                raise
            return await self._begin_anew("it has grown to its bound in memory")
        if not is_taken:
            return await self._begin_anew("the stream of events is another one than before")
        self._high, self._doubtful, self.behind = found[-1][0], False, len(found) > BATCH
        return len(found) > 1

    async def _is_taken(self, low: int, high: int, found: Sequence[Raw]) -> bool:
        """Take what is new; not where the stream has not what was read from it.  ``found``: from ``high`` on."""
        known = found[:1]
        if self._doubtful:
            known = (await stream.newest_first(self._store, high, low, past.COMPARED))[::-1]
        if not known or not found or found[0][0] != high:
            return False
        take = partial(past.take, known=known, new=found[1:])
        places = await self._index.write(partial(take, sure=False), commit=len(found) > 1)
        if not places:
            return places is not None
        for place in places:  # where they were read before, they have to be still
            there = await stream.newest_first(self._store, place, place, 1)
            if not there or await self._index.write(partial(past.take, known=there, new=(), sure=True)) is None:
                return False
        return await self._index.write(partial(take, sure=True)) is not None

    async def _begin_anew(self, reason: str) -> bool:
        self._begun = 0
        await self._index.begin_anew(reason)
        return True

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
        self._low, self._complete = older[0][0] if older else low, complete
        if commit:
            self._committed, self._uncommitted = self._committed + self._uncommitted, 0
        await asyncio.sleep(min(monotonic() - begun, _PAUSE))  # pulls and pushes share the processor with it
        return True

    async def _let_go(self, low: int) -> bool:
        """What was pruned from the stream goes from here, too; in an older copy of it that is there again."""
        before = await stream.oldest_place(self._store) or low
        if before < low and self._complete:
            await self._index.write(Writer.reopen)
            self._complete = False
            return True
        if before > low:
            if await self._index.write(lambda writer: writer.forget(before, FORGOTTEN)):
                await self._look()
                return True
            self._low = before
        return False

    async def _wait_for_news(self, gathered: float, until: float) -> None:
        await asyncio.sleep(gathered)
        while not await stream.wait_for_news(self._store, self._high or 0) and monotonic() < until:
            pass
