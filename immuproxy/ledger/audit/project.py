"""From the outboxes of the repositories into the audit.

Any number of projectors may work on the same outboxes and may be killed at any moment: ``audit_project.lua`` takes each
event once.  An outbox is read from its beginning, and what the audit has taken is deleted from it afterwards, by id; so
what a killed projector left is either taken again (and skipped) or deleted by the next one.

On a cluster the audit's node may be taken over by one that has not got everything, and an event that stands in no
outbox any more is gone.  So an outbox is emptied when the audit surely keeps what it took (`Durability`); where that
cannot be said in time, events are shown all the same, and stay in their outboxes (H108).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

from immuproxy.ledger import keys, steady
from immuproxy.ledger.audit import entries
from immuproxy.ledger.audit.entries import Entry, UnreadableError, entry_from_json
from immuproxy.ledger.redis import LedgerUnavailableError, Store, UnconfirmedError

BATCH = 100
"""Events a script call: about 3 ms of Redis."""

_MOST_UNREADABLE = 1_000
_REPOSITORIES_A_CALL = 500
_SHARE = 50
"""How many times as long as a look at every outbox takes it is left alone: a fiftieth of a core goes there (H96)."""

_JITTER = random.Random()  # noqa: S311  # jitter, no secret; of its own, so that nobody's seed is used up

OutboxEntry = tuple[bytes, dict[bytes, bytes]]


def _ignore(_: Exception | float) -> None:
    """Failures are tried again anyway."""


class Projector:
    """Carries events into the audit: at once where `notify` was called, by and by from everywhere else."""

    def __init__(
        self,
        store: Store,
        *,
        retry_seconds: float = 1.0,
        sweep_seconds: float = 5.0,
        on_failure: Callable[[Exception], None] = _ignore,
        on_lag: Callable[[float], None] = _ignore,
    ) -> None:
        """``sweep_seconds``: between two looks at every outbox.  ``on_failure`` is told of each failed try, ``on_lag``
        at each look the seconds for which the oldest event has waited, and 0 where none has.
        """
        self._store = store
        self._retry_seconds = retry_seconds
        self._sweep_seconds = sweep_seconds
        self._on_failure = on_failure
        self._on_lag = on_lag
        self._look = 0.0
        self._dirty: set[str] = set()
        self._taken: dict[str, list[bytes]] = {}
        self._working = asyncio.Lock()
        self._woken = asyncio.Event()

    def notify(self, repository: str) -> None:
        """There may be something in this repository's outbox.  Returns at once."""
        self._dirty.add(repository)
        self._woken.set()

    @property
    def waiting(self) -> int:
        """Repositories that are known to have something to project."""
        return len(self._dirty)

    async def run(self) -> None:
        """Work until cancelled; Redis being away is waited out."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_notifications())
            tasks.create_task(self._sweep_for_ever())

    async def drain(self, repository: str) -> int:
        """Project all that is in one outbox now; how many events were new.  Raises `LedgerUnavailableError`.

        The outbox is emptied of what the audit surely keeps.
        """
        added = await self._take(repository)
        await self._empty()
        return added

    async def sweep(self) -> int:
        """As `drain`, of every outbox."""
        added, began = 0, steady.now()
        waiting = await self._repositories_with_events()
        self._look = steady.now() - began
        self._on_lag(await self._since(min(waiting.values())) if waiting else 0.0)
        for repository in waiting:
            added += await self._take(repository)
        await self._empty()
        return added

    async def _follow_notifications(self) -> None:
        while _is_wanted():
            await self._woken.wait()
            self._woken.clear()
            if not await self._drain_dirty():
                await asyncio.sleep(self._retry_seconds)
                self._woken.set()

    async def _drain_dirty(self) -> bool:
        """Whether all of it went into the audit, and out of the outboxes."""
        try:
            while self._dirty and _is_wanted():
                await self._take_dirty(self._dirty.pop())
            return await self._empty()
        except LedgerUnavailableError as error:
            self._on_failure(error)
            return False

    async def _take_dirty(self, repository: str) -> None:
        try:
            await self._take(repository)
        except BaseException:
            self._dirty.add(repository)
            raise

    async def _sweep_for_ever(self) -> None:
        while _is_wanted():
            # Replicas that start together should not sweep together.
            pause = max(self._sweep_seconds, _SHARE * self._look)
            await asyncio.sleep(pause * _JITTER.uniform(0.7, 1.3))
            try:
                await self.sweep()
            except LedgerUnavailableError as error:
                self._on_failure(error)

    async def _take(self, repository: str) -> int:
        """Into the audit, what this projector has not taken from the outbox before; how many events were new."""
        added = 0
        async with self._working:  # or two would read the same
            ids = self._taken.get(repository, [])
            while batch := await self._read(repository, after=ids[-1] if ids else b""):
                added += await self._project(repository, batch)
                ids = self._taken.setdefault(repository, ids)
                ids += [outbox_id for outbox_id, _ in batch]
                if len(batch) < BATCH:
                    break
        return added

    async def _empty(self) -> bool:
        """Delete from the outboxes what was taken from them; false where some of it is not sure to be kept."""
        async with self._working:
            if not self._taken:
                return True
            try:
                kept = await self._kept()
            except UnconfirmedError as error:
                self._on_failure(error)
                return False
            for repository, is_kept in kept.items():
                if is_kept:
                    await self._delete(repository, self._taken[repository])
                else:
                    self.notify(repository)  # the audit has gone back: once more, from the beginning
                del self._taken[repository]
            return all(kept.values())

    async def _kept(self) -> dict[str, bool]:
        """Whether the audit keeps what was taken from these outboxes; raises `UnconfirmedError` where nobody knows."""
        reached = [item for repository, ids in self._taken.items() for item in (repository, ids[-1])]
        found = await self._store.durable_script("audit_confirm", [entries.WATERMARK], reached)
        return {repository: bool(each) for repository, each in zip(self._taken, found, strict=True)}

    async def _read(self, repository: str, *, after: bytes = b"") -> list[OutboxEntry]:
        client, start = self._store.client, b"(" + after if after else b"-"
        found: list[OutboxEntry] = await self._store.do(client.xrange(keys.outbox(repository), start, count=BATCH))
        return found

    async def _project(self, repository: str, batch: Sequence[OutboxEntry]) -> int:
        readable: list[tuple[str, Entry]] = []
        for outbox_id, fields in batch:
            try:
                readable.append((outbox_id.decode(), entry_from_json(fields.get(b"event", b""))))
            except UnreadableError:
                await self._set_aside(repository, outbox_id, fields)
        return await take(self._store, repository, batch[-1][0].decode(), readable)

    async def _set_aside(self, repository: str, outbox_id: bytes, fields: dict[bytes, bytes]) -> None:
        kept: dict[Any, Any] = {"repository": repository, "outbox_id": outbox_id, "entry": repr(fields)}
        client = self._store.client
        await self._store.do(client.xadd(entries.UNREADABLE, kept, maxlen=_MOST_UNREADABLE))
        self._on_failure(UnreadableError(f"an outbox entry of {repository} holds no event: {outbox_id.decode()}"))

    async def _delete(self, repository: str, ids: Sequence[bytes]) -> None:
        for at in range(0, len(ids), BATCH):
            await self._store.script("audit_emptied", [keys.outbox(repository)], ids[at : at + BATCH])

    async def _since(self, ms: int) -> float:
        return max(0, await self._store.now_ms() - ms) / 1000  # its clock made the ids

    async def _repositories_with_events(self) -> dict[str, int]:
        """With the time (ms) of the oldest event that each has."""
        found: dict[str, int] = {}
        members = await self._store.do(self._store.client.smembers(keys.REPOSITORIES))
        names = sorted(member.decode() for member in members)
        for at in range(0, len(names), _REPOSITORIES_A_CALL):
            chunk = names[at : at + _REPOSITORIES_A_CALL]
            found |= {name: ms for name, ms in zip(chunk, await self._oldest(chunk), strict=True) if ms}
            await asyncio.sleep(0)  # thousands of replies are a while for everybody else on the loop
        return found

    async def _oldest(self, names: Sequence[str]) -> list[int]:
        pipeline = self._store.client.pipeline(transaction=False)
        for name in names:
            pipeline.xrange(keys.outbox(name), count=1)
        found = await self._store.do(pipeline.execute())
        return [int(first[0][0].partition(b"-")[0]) if first else 0 for first in found]


def _is_wanted() -> bool:
    """False once the task is cancelled: redis-py can take a cancellation for a lost connection, and go on."""
    task = asyncio.current_task()
    return task is None or not task.cancelling()


async def take(store: Store, repository: str, reaches: str, batch: Sequence[tuple[str, Entry]]) -> int:
    """Run ``audit_project`` on entries with their outbox ids; how many were new.

    ``repository`` and ``reaches`` (the last outbox id) are empty for events that come from no outbox.
    """
    names, flat = entries.arguments(batch)
    fixed = [entries.EVENTS, entries.WATERMARK, entries.LATE]
    return int(await store.script("audit_project", [*fixed, *names], [repository, reaches, *flat]))
