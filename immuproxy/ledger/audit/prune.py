"""Removing old events, in small steps: the indexes first, the events themselves last.

A prune that was interrupted can be run again.  Watermarks stay, so nothing pruned comes back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from immuproxy.ledger import keys
from immuproxy.ledger.audit import calendar, entries
from immuproxy.ledger.audit.cursors import position
from immuproxy.ledger.audit.values import PruneProgress
from immuproxy.ledger.audit.vocabulary import Vocabulary
from immuproxy.ledger.redis import Store

_KEYS_A_STEP = 512
_EVENTS_A_STEP = 1_000
_TAGS_A_STEP = 1_000
_LATE_DAYS = 30
"""How much older than the oldest entry an event may be that was counted by its own time."""


class Pruner:
    """Takes events out of the audit for good."""

    def __init__(self, store: Store, vocabulary: Vocabulary) -> None:
        """``vocabulary`` knows which postings there are."""
        self._store = store
        self._vocabulary = vocabulary

    async def prune(self, before: int) -> AsyncIterator[PruneProgress]:
        """See `Audit.prune`."""
        batches = await self._postings()
        days = await self._days(before)
        total = int(await self._store.do(self._store.client.xlen(entries.EVENTS)))
        steps, done = len(batches) + len(days) + 1 + total // _EVENTS_A_STEP, 0
        for batch in batches:
            await self._store.script("audit_prune", batch, [before])
            yield PruneProgress(done := done + 1, steps, 0)
        await self._forget_values(before)
        for day in days:
            await self._forget_counts(day)
            yield PruneProgress(done := done + 1, steps, 0)
        removed = 0
        while count := await self._store.script("audit_trim", [entries.EVENTS], [before, _EVENTS_A_STEP]):
            removed += count
            yield PruneProgress(done := min(done + 1, steps - 1), steps, removed)
        yield PruneProgress(steps, steps, removed)

    async def _postings(self) -> list[list[str]]:
        names = [entries.LATE, entries.SHADOW]
        for field in entries.VALUE_FIELDS:
            names += [entries.posting(field, value) for value in await self._vocabulary.values(field)]
        names += [entries.posting("refused", value) for value in await self._vocabulary.values("repo")]
        names += entries.all_buckets()
        return [names[at : at + _KEYS_A_STEP] for at in range(0, len(names), _KEYS_A_STEP)]

    async def _days(self, before: int) -> range:
        """Whole days (since 1970) before the time for which there may be counts."""
        client = self._store.client
        oldest = await self._store.do(client.xrange(entries.EVENTS, count=1))
        newest = await self._store.do(client.xrevrange(entries.EVENTS, count=1))
        if not oldest or not newest:
            return range(0)
        end = min(before // calendar.DAY_MS, position(newest[0][0]).ms // calendar.DAY_MS + 1)
        return range(max(0, position(oldest[0][0]).ms // calendar.DAY_MS - _LATE_DAYS), end)

    async def _forget_counts(self, day: int) -> None:
        paired = [
            key
            for ranking in calendar.RANKINGS
            for key in (calendar.daily_key(*ranking, day), calendar.weekly_key(*ranking, day // calendar.WEEK_DAYS))
        ]
        hours = range(day * calendar.DAY_HOURS, (day + 1) * calendar.DAY_HOURS)
        hourly = [calendar.hourly_key(*ranking, hour) for ranking in calendar.RANKINGS for hour in hours]
        await self._store.script("audit_uncount", [*paired, *hourly], [len(calendar.RANKINGS)])

    async def _forget_values(self, before: int) -> None:
        """Forget the values without an event since, but no repository that holds tags."""
        client = self._store.client
        for repository, last in list((await self._vocabulary.values("repo")).items()):
            await self._forget_tags(repository, before)
            if last < before and not await self._store.do(client.zcard(entries.tags_key(repository))):
                await self._store.script("audit_forget", [entries.values_key("repo")], [before, repository])
        for field in (*entries.VALUE_FIELDS, entries.EXCEPTED):
            if field != "repo":
                await self._store.do(client.zremrangebyscore(entries.values_key(field), "-inf", f"({before}"))

    async def _forget_tags(self, repository: str, before: int) -> None:
        """Forget the tags without an event since that are not held: so every held tag is always among the tags."""
        client, key, kept = self._store.client, entries.tags_key(repository), 0
        await self._store.do(client.zremrangebyscore(entries.excepted_tags_key(repository), "-inf", f"({before}"))
        older: dict[str, Any] = {"min": "-inf", "max": f"({before}"}
        while names := await self._store.do(client.zrangebyscore(key, **older, start=kept, num=_TAGS_A_STEP)):
            held = await self._store.do(client.zmscore(keys.tags(repository), names))
            gone = [name for name, since in zip(names, held, strict=True) if since is None]
            if gone:
                await self._store.do(client.hdel(entries.sets_key(repository), *gone))
                await self._store.script("audit_forget", [key], [before, *gone])
            kept += len(names) - len(gone)
