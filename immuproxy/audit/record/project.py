"""From the outboxes of the repositories into the record.

Any number of projectors may work on the same outboxes and may be killed at any moment.  Each event is taken once: a
projector reads the watermark of a repository, then its outbox, and takes what stands there above the watermark, unless
somebody has moved that meanwhile (``record_take.lua``).  What was taken is deleted from the outbox afterwards, by id;
so what a killed projector left is deleted by the next one.

An outbox that was emptied forgets the ids it gave out, and the clock may go back.  So a watermark is of one life of an
outbox, which ends when it is emptied, and what is of another life is new (H128).  Older releases gave no life to what
they wrote: of that, what is not above the watermark is looked for in the record (H126).

On a cluster the record's node may be taken over by one that has not got everything, and an event that stands in no
outbox any more is gone.  So an outbox is emptied when the record surely keeps what it took (`Durability`); where that
cannot be said in time, events are shown all the same, and stay in their outboxes (H108).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cachetools import FIFOCache

from immuproxy.audit.record import keys as record_keys
from immuproxy.audit.record.rows import Entry, UnreadableError, entry_from_json
from immuproxy.ledger import keys
from immuproxy.store import cancelling, steady
from immuproxy.store.redis import Argument, LedgerUnavailableError, Store, UnconfirmedError

BATCH = 100
"""Events a script call: about a millisecond of Redis."""

_MOST_UNREADABLE = 1_000
_MOST_MARKS = 10_000
_REPOSITORIES_A_CALL = 500
_SHARE = 50
"""How many times as long as a look at every outbox takes it is left alone: a fiftieth of a core goes there (H96)."""

_JITTER = random.Random()  # noqa: S311  # jitter, no secret; of its own, so that nobody's seed is used up


class OutboxPlace(NamedTuple):
    """Where an event stands in its outbox."""

    life: str
    ms: int
    sequence: int

    @property
    def id(self) -> bytes:
        """In the outbox."""
        return f"{self.ms}-{self.sequence}".encode()

    def is_behind(self, mark: OutboxPlace) -> bool:
        """Whether it is yet to be taken, where everything up to ``mark`` was; perhaps so where it `is_doubtful`."""
        return not self.life or self.life != mark.life or self > mark

    def is_doubtful(self, mark: OutboxPlace) -> bool:
        """Whether it may be of the life that ``mark`` is of, or of one before, or of one after."""
        return not self.life and self[1:] <= mark[1:]


class OutboxEntry(NamedTuple):
    """An entry of an outbox, whatever it holds."""

    place: OutboxPlace
    fields: dict[bytes, bytes]


NOTHING = OutboxPlace("", 0, 0)


def place_of(life: str, outbox_id: str) -> OutboxPlace:
    """Read the id of an entry."""
    ms, _, sequence = outbox_id.partition("-")
    return OutboxPlace(life, int(ms), int(sequence))


def mark_of(text: str) -> OutboxPlace:
    """Read a watermark: life and id; one of an older release, which knew no lives, is an id alone."""
    life, _, outbox_id = text.rpartition(" ")
    return place_of(life, outbox_id) if outbox_id else NOTHING


def as_mark(place: OutboxPlace) -> str:
    """The inverse of `mark_of`."""
    return f"{place.life} {place.ms}-{place.sequence}".lstrip()


@dataclass(slots=True)
class _Taken:
    """What this projector has taken from an outbox, and not deleted there yet: all of one life."""

    life: str
    ids: list[bytes] = field(default_factory=list)


def _ignore(_: Exception | float) -> None:
    """Failures are tried again anyway."""


class Projector:
    """Carries events into the record: at once where `notify` was called, by and by from everywhere else."""

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
        self._taken: dict[str, _Taken] = {}
        self._marks: FIFOCache[str, str] = FIFOCache(_MOST_MARKS)
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

        The outbox is emptied of what the record surely keeps.
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
        while cancelling.is_wanted():
            await self._woken.wait()
            self._woken.clear()
            if not await self._drain_dirty():
                await asyncio.sleep(self._retry_seconds)
                self._woken.set()

    async def _drain_dirty(self) -> bool:
        """Whether all of it went into the record, and out of the outboxes."""
        try:
            while self._dirty and cancelling.is_wanted():
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
        while cancelling.is_wanted():
            # Replicas that start together should not sweep together.
            pause = max(self._sweep_seconds, _SHARE * self._look)
            await asyncio.sleep(pause * _JITTER.uniform(0.7, 1.3))
            try:
                await self.sweep()
            except LedgerUnavailableError as error:
                self._on_failure(error)

    async def _take(self, repository: str) -> int:
        """Into the record, what this projector has not taken from the outbox before; how many events were new."""
        added = 0
        async with self._working:  # or two would read the same
            mark = await self._mark(repository)
            while batch := await self._read(repository):
                took, mark = await self._take_batch(repository, batch, mark)
                self._marks[repository] = mark
                added += max(took, 0)
                if took >= 0:
                    self._note(repository, batch)
                    if len(batch) < BATCH:
                        break
        return added

    async def _take_batch(self, repository: str, batch: Sequence[OutboxEntry], mark: str) -> tuple[int, str]:
        """How many were new, and the watermark; -1 where somebody else has moved that since it was ``mark``."""
        reached = mark_of(mark)
        new = [each for each in batch if each.place.is_behind(reached)]
        if not new:
            return 0, mark
        entries, doubtful = list[Entry](), set[str]()
        for each in new:
            if entry := await self._readable(repository, each):
                entries.append(entry)
                if each.place.is_doubtful(reached):
                    doubtful.add(entry.event_id)
        becomes = as_mark(batch[-1].place)
        return await take(self._store, repository, entries, mark=mark, becomes=becomes, doubtful=doubtful)

    def _note(self, repository: str, batch: Sequence[OutboxEntry]) -> None:
        """It is to be deleted.  What was taken of an earlier life is deleted: it ends no sooner."""
        taken, life = self._taken.get(repository), batch[-1].place.life
        if taken is None or taken.life != life:
            taken = self._taken[repository] = _Taken(life)
        taken.ids += [each.place.id for each in batch]

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
                else:  # the record has gone back: once more, from the beginning
                    self._marks.pop(repository, None)
                    self.notify(repository)
                del self._taken[repository]
            return all(kept.values())

    async def _kept(self) -> dict[str, bool]:
        """Whether the record keeps what was taken from these outboxes; raises `UnconfirmedError` where nobody knows."""
        reached = [item for name, taken in self._taken.items() for item in (name, taken.life, taken.ids[-1])]
        found = await self._store.durable_script("record_confirm", [record_keys.WATERMARK], reached)
        return {repository: bool(each) for repository, each in zip(self._taken, found, strict=True)}

    async def _mark(self, repository: str) -> str:
        """A remembered one may be old: that is found out when it is used."""
        if repository in self._marks:
            return self._marks[repository]
        found = await self._store.do(self._store.client.hget(record_keys.WATERMARK, repository))
        return found.decode() if found else ""

    async def _read(self, repository: str) -> list[OutboxEntry]:
        """What stands in the outbox behind what was taken from it; the first of them where that is of another life."""
        taken = self._taken.get(repository)
        client, start = self._store.client, b"(" + taken.ids[-1] if taken else b"-"
        found = await self._store.do(client.xrange(keys.outbox(repository), start, count=BATCH))
        batch = _waiting(found, taken.life if taken else "")
        if taken and not (batch and batch[0].place.life == taken.life) and await self._has_ended(repository, taken):
            del self._taken[repository]
            return await self._read(repository)
        return batch

    async def _has_ended(self, repository: str, taken: _Taken) -> bool:
        """Whether another projector has emptied the outbox, which may have begun anew, with lower ids."""
        first = await self._store.do(self._store.client.xrange(keys.outbox(repository), count=1))
        return not first or first[0][1].get(b"life", b"").decode() != taken.life

    async def _readable(self, repository: str, waiting: OutboxEntry) -> Entry | None:
        try:
            return entry_from_json(waiting.fields.get(b"event", b""))
        except UnreadableError:
            await self._set_aside(repository, waiting)
            return None

    async def _set_aside(self, repository: str, waiting: OutboxEntry) -> None:
        outbox_id = waiting.place.id
        kept: dict[Any, Any] = {"repository": repository, "outbox_id": outbox_id, "entry": repr(waiting.fields)}
        client = self._store.client
        await self._store.do(client.xadd(record_keys.UNREADABLE, kept, maxlen=_MOST_UNREADABLE))
        self._on_failure(UnreadableError(f"an outbox entry of {repository} holds no event: {outbox_id.decode()}"))

    async def _delete(self, repository: str, taken: _Taken) -> None:
        for at in range(0, len(taken.ids), BATCH):
            some: list[Argument] = [taken.life, *taken.ids[at : at + BATCH]]
            await self._store.script("record_emptied", [keys.outbox(repository)], some)

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


def _waiting(found: Sequence[tuple[bytes, dict[bytes, bytes]]], life: str) -> list[OutboxEntry]:
    """Who knows no lives, being of an older release, writes into that of what stands before."""
    batch: list[OutboxEntry] = []
    for outbox_id, fields in found:
        life = fields.get(b"life", b"").decode() or life
        batch.append(OutboxEntry(place_of(life, outbox_id.decode()), fields))
    return batch


async def take(
    store: Store,
    repository: str,
    entries: Sequence[Entry],
    *,
    mark: str = "",
    becomes: str = "",
    doubtful: Collection[str] | None = None,
) -> tuple[int, str]:
    """Run ``record_take``; how many were new, and the watermark: -1 where it was another than ``mark``.

    ``repository`` and the marks are empty for events that come from no outbox.  ``doubtful``: ids of the events that
    may be there already, None for all; they are looked for among the newest.
    """
    flat: list[Argument] = []
    for each in entries:
        in_doubt = doubtful is None or each.event_id in doubtful
        flat += [int(in_doubt), each.event_id, each.time, each.field, each.packed]
    arguments = [repository, mark, becomes, *flat]
    used = [record_keys.EVENTS, record_keys.WATERMARK, record_keys.OLD_WATERMARK]
    added, found = await store.script("record_take", used, arguments)
    return int(added), found.decode() if isinstance(found, bytes) else found
