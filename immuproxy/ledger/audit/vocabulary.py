"""The known values of each field, kept in memory and brought up to date before each use.

A refresh reads only the values that had an event since the last one, so it stays cheap with thousands of repositories.
"""

from __future__ import annotations

from immuproxy.ledger.audit.entries import EXCEPTED, values_key
from immuproxy.ledger.redis import Store

Lasts = dict[str, int]
"""Value -> milliseconds of its last event."""


class Vocabulary:
    """The values of the fields in `entries.VALUE_FIELDS`, and the repositories of exceptions."""

    def __init__(self, store: Store) -> None:
        """Nothing is read before the first use."""
        self._store = store
        self._known: dict[str, Lasts] = {}
        self._newest: dict[str, float] = {}

    async def values(self, field: str) -> Lasts:
        """All values of a field, as of now; do not change the answer.  ``""`` is among them where events have none."""
        known = await self._values(field)
        excepted = await self._values(EXCEPTED) if field == "repo" else {}
        if not excepted:
            return known
        return known | {name: max(last, known.get(name, last)) for name, last in excepted.items()}

    async def repositories(self) -> Lasts:
        """Those that more is known of than an exception; do not change the answer."""
        every, named = await self.values("repo"), await self._values("repo")
        return every if len(every) == len(named) else {name: every[name] for name in named}

    async def _values(self, field: str) -> Lasts:
        known = self._known.setdefault(field, {})
        since = self._newest.get(field, float("-inf"))
        size, newest = await self._read(field, since)
        known.update(newest)
        if len(known) != size or (known and max(newest.values(), default=-1) < since):
            # Something was pruned, or this is another Redis than before.
            size, newest = await self._read(field, float("-inf"))
            self._known[field] = known = newest
        if known:
            self._newest[field] = max(newest.values(), default=since)
        return known

    async def _read(self, field: str, since: float) -> tuple[int, Lasts]:
        pipeline = self._store.client.pipeline(transaction=False)
        pipeline.zcard(values_key(field))
        pipeline.zrangebyscore(values_key(field), since, "+inf", withscores=True)
        size, pairs = await self._store.do(pipeline.execute())
        return int(size), {value.decode(): int(score) for value, score in pairs}
