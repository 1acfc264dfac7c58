"""From the stream of events in Redis into the index: what is new at once, what is old newest first, until all is there.

The last event that was taken has to be the first one that is read next; where it is not, Redis came back with another
past, and the index is built anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from immuproxy.audit import schema
from immuproxy.audit.index import Index, IndexDamagedError, IndexFullError
from immuproxy.audit.writing import Raw, Writer
from immuproxy.ledger.audit import rows
from immuproxy.ledger.audit.entries import EVENTS
from immuproxy.ledger.redis import LedgerUnavailableError, Store

BATCH = 500
"""Events that are read and taken at once."""

BLOCK_MS = 400
"""How long Redis is asked to wait for news, at most; less than the least timeout of its replies."""

MOST_UNCOMMITTED = 20_000
"""Old events that searches do not see yet, at most; a commit writes each page that they touched once."""

_SHARE = 4
"""They are at most that part of what searches see."""

_PAUSE = 0.03
"""Seconds after each batch of old events, at most."""

FORGOTTEN = 200
"""Events that are taken out at once."""

Entry = tuple[bytes, dict[bytes, bytes]]


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
        self.bounded = False
        """Whether an index in memory has no room for older events."""
        self._failed: Exception | None = None

    async def run(self) -> None:
        """Work until cancelled; Redis being away, and a full disk, are waited out."""
        while _is_wanted():
            try:
                worked = await self.step()
                await self._recover()
                if not worked:
                    await self._wait_for_news()
            except (LedgerUnavailableError, IndexFullError, IndexDamagedError) as error:
                self._failed = error
                self._on_failure(error)
                await self._tell()
                await asyncio.sleep(self._retry_seconds)

    async def step(self) -> bool:
        """Take some of what is missing, and let go some of what is gone; false where there is neither."""
        low, high, complete = await self._index.write(Writer.state, commit=False)
        if high is None or low is None:
            worked = await self._begin()
            if not (worked or complete):
                await self._tell()  # that there is nothing is news, too
        else:
            worked = await self._forward(high)
            worked = (not complete and await self._back(low)) or worked
            worked = await self._let_go() or worked
        if worked:
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

    async def _recover(self) -> None:
        if self._failed is not None:
            self._failed = None
            await self._tell()

    async def _tell(self) -> None:
        async with self._looked:
            self._seen += 1
            self._looked.notify_all()

    async def _begin(self) -> bool:
        newest = _raw(await self._read("xrevrange", "+", "-", BATCH))[::-1]
        complete = len(newest) < BATCH
        await self._index.write(lambda writer: writer.take(newest, complete=complete))
        return bool(newest)

    async def _forward(self, high: int) -> bool:
        found = _raw(await self._read("xrange", _id(high), "+", BATCH + 1))
        if not found or found[0][0] != high:
            await self._index.begin_anew("the stream of events is another one than before")
            return True
        if found[1:]:
            await self._take(found[1:])
        return bool(found[1:])

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
        older = _raw(await self._read("xrevrange", _id(low - 1), "-", BATCH))[::-1]
        complete = len(older) < BATCH
        self._uncommitted += len(older)
        commit = complete or self._uncommitted >= min(MOST_UNCOMMITTED, self._committed // _SHARE)
        await self._index.write(lambda writer: writer.take(older, complete=complete), commit=commit)
        if commit:
            self._committed, self._uncommitted = self._committed + self._uncommitted, 0
        await asyncio.sleep(min(monotonic() - begun, _PAUSE))  # pulls and pushes share the processor with it
        return True

    async def _let_go(self) -> bool:
        """What was pruned from the stream goes from here, too."""
        first = _raw(await self._read("xrange", "-", "+", 1))
        if not first:
            return False
        before = first[0][0]
        return bool(await self._index.write(lambda writer: writer.forget(before, FORGOTTEN)))

    async def _read(self, command: str, start: str, end: str, count: int) -> list[Entry]:
        found: list[Entry] = await self._store.do(getattr(self._store.client, command)(EVENTS, start, end, count=count))
        return found

    async def _wait_for_news(self) -> None:
        _, high, _ = await self._index.write(Writer.state)
        streams: dict[Any, Any] = {EVENTS: _id(high or 0)}
        await self._store.do(self._store.client.xread(streams, count=1, block=BLOCK_MS))


def _raw(found: Sequence[Entry]) -> list[Raw]:
    return [(_place(entry_id), rows.raw_of(fields)) for entry_id, fields in found]


def _place(entry_id: bytes) -> int:
    ms, _, sequence = entry_id.partition(b"-")
    return schema.place_of(int(ms), int(sequence))


def _id(place: int) -> str:
    return f"{schema.ms_of(place)}-{place & schema.MOST_SEQUENCE}"


def _is_wanted() -> bool:
    """False once the task is cancelled: redis-py can take a cancellation for a lost connection, and go on."""
    task = asyncio.current_task()
    return task is None or not task.cancelling()
