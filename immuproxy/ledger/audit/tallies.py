"""Counting: charts over time, most frequent values, known values.

Nothing is counted by reading events.  How many events had a value in a span of time is the difference of two ranks in
its posting.  Where the values to compare would be too many, counters that are kept by day and week say which of them
come into question; only the values of refused and failed events are ranked by such counters alone (`calendar`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import nlargest

from immuproxy.ledger.audit import calendar, entries, rows
from immuproxy.ledger.audit.cursors import MOST_MS
from immuproxy.ledger.audit.plan import scan_members
from immuproxy.ledger.audit.values import Chart, Series, Tally
from immuproxy.ledger.audit.vocabulary import Vocabulary
from immuproxy.ledger.redis import Store

MOST_BUCKETS = 400
_KEYS_A_CALL = 500
_RECENT_EVENTS = 300
_MOST_COMPARED = 500
"""Values that a ranking compares one by one."""

_MOST_OF_A_COUNTER = 100
"""Values of each counter that come into question for a ranking."""

_SHORTLIST = 60


class Tallies:
    """Counts over the postings of the audit."""

    def __init__(self, store: Store, vocabulary: Vocabulary) -> None:
        """``vocabulary`` knows the values to count."""
        self._store = store
        self._vocabulary = vocabulary

    async def ranks(self, postings: Sequence[str], times: Sequence[int] = ()) -> list[list[int]]:
        """For each posting how many events lie before each time (ascending), and last how many there are."""
        found: list[list[int]] = []
        for at in range(0, len(postings), _KEYS_A_CALL):
            found += await self._store.script("audit_ranks", postings[at : at + _KEYS_A_CALL], list(times))
        return found

    async def chart(self, field: str, since: int, until: int, buckets: int) -> Chart:
        """Counts by value of ``field`` in ``buckets`` equal parts of the time from ``since`` to ``until``."""
        _require(field, entries.VALUE_FIELDS)
        if not (0 <= since < until and 1 <= buckets <= MOST_BUCKETS):
            raise ValueError(f"a chart runs forward and has 1 to {MOST_BUCKETS} buckets")
        edges = [since + (until - since) * i // buckets for i in range(buckets + 1)]
        values = sorted(await self._active(field, since))
        ranks = await self.ranks([entries.posting(field, value) for value in values], edges)
        series = (
            Series(value, tuple(row[i + 1] - row[i] for i in range(buckets)))
            for value, row in zip(values, ranks, strict=True)
        )
        return Chart(field, tuple(edges), tuple(each for each in series if each.total))

    async def _active(self, field: str, since: int) -> dict[str, int]:
        known = await self._vocabulary.values(field)
        return {value: last for value, last in known.items() if last >= since}

    async def top(self, field: str, since: int, until: int | None, limit: int) -> list[Tally]:
        """The values with most events in a span of time.

        Where more than `_MOST_COMPARED` repositories were active, only those are compared that are among the most
        frequent of any day or week of the span.
        """
        _require(field, entries.VALUE_FIELDS)
        active = {value: last for value, last in (await self._active(field, since)).items() if value}
        end = MOST_MS if until is None else until
        if field == "repo" and len(active) > _MOST_COMPARED:
            newest = max(active.values())
            names = calendar.touched_keys(field, since, min(end, newest + 1))
            shortlist = await self._highest(list(names), max(_SHORTLIST, 2 * limit))
            active = {tally.value: active[tally.value] for tally in shortlist if tally.value in active}
        ranks = await self.ranks([entries.posting(field, value) for value in active], [since, end])
        counted = (Tally(value, row[1] - row[0], active[value]) for value, row in zip(active, ranks, strict=True))
        return _largest((tally for tally in counted if tally.count), limit)

    async def top_of_outcome(self, field: str, outcome: str, since: int, until: int, limit: int) -> list[Tally]:
        """The values with most events of one outcome; whole hours (UTC) are counted, the first and the last too."""
        _require(field, calendar.RANKED_FIELDS)
        _require(outcome, calendar.RANKED_OUTCOMES)
        return await self._highest(list(calendar.span_keys(outcome, field, since, until)), limit)

    async def _highest(self, counters: Sequence[str], limit: int) -> list[Tally]:
        """The members with the highest sums; candidates are the `_MOST_OF_A_COUNTER` highest of each."""
        if not counters:
            return []
        pairs = await self._store.script("audit_top", counters, [limit, _MOST_OF_A_COUNTER])
        return [Tally(pairs[i].decode(), int(pairs[i + 1])) for i in range(0, len(pairs), 2)]

    async def known_values(self, field: str, prefix: str, repository: str, limit: int) -> list[Tally]:
        """Values that contain ``prefix``: beginnings first, then the last active; with all their events."""
        _require(field, (*entries.VALUE_FIELDS, "tag"))
        if field == "tag":
            return await self._known_tags(prefix, repository, limit)
        known = await self._vocabulary.values(field)
        chosen = _best(known, prefix, limit)
        ranks = await self.ranks([entries.posting(field, value) for value in chosen])
        return [Tally(value, row[0], known[value]) for value, row in zip(chosen, ranks, strict=True)]

    async def _known_tags(self, prefix: str, repository: str, limit: int) -> list[Tally]:
        names = await self._tags_of(repository, prefix) if repository else await self._recent_tags()
        chosen = _best(names, prefix, limit)
        # A posting of a tag may hold others, too: no counts here.
        return [Tally(name, 0, names[name] or None) for name in chosen]

    async def _tags_of(self, repository: str, prefix: str) -> dict[str, int]:
        key = entries.tags_key(repository)
        return {name: 0 async for name in scan_members(self._store, key, prefix)}

    async def _recent_tags(self) -> dict[str, int]:
        raw = await self._store.do(self._store.client.xrevrange(entries.EVENTS, count=_RECENT_EVENTS))
        found = (rows.event_of(rows.row(rows.raw_of(fields))) for _, fields in reversed(raw))
        return {event.tag: event.time for event in found if event and event.tag}

    async def sizes(self, names: Iterable[str]) -> list[int]:
        """How many members each sorted set has."""
        pipeline = self._store.client.pipeline(transaction=False)
        for name in names:
            pipeline.zcard(name)
        return [int(size) for size in await self._store.do(pipeline.execute())]


def _require(value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{value!r} is not counted; choose one of {', '.join(choices)}")


def _largest(tallies: Iterable[Tally], limit: int) -> list[Tally]:
    return nlargest(limit, tallies, key=lambda tally: (tally.count, tally.last or 0, tally.value))


def _best(known: dict[str, int], part: str, limit: int) -> list[str]:
    wanted = part.casefold()
    matching = ((value, last) for value, last in known.items() if value and wanted in value.casefold())
    best = nlargest(limit, matching, key=lambda pair: (pair[0].casefold().startswith(wanted), pair[1], pair[0]))
    return [value for value, _ in best]
