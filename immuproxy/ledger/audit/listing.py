"""Pages of repositories and of their tags, as the audit knows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from immuproxy.ledger.audit import cursors, entries
from immuproxy.ledger.audit.matching import value_test
from immuproxy.ledger.audit.tallies import Tallies
from immuproxy.ledger.audit.values import BadCursorError, RepositoryPage, RepositorySummary, TagActivity, TagPage
from immuproxy.ledger.audit.vocabulary import Lasts, Vocabulary
from immuproxy.ledger.redis import Store
from immuproxy.ledger.search import Term, has_wildcard

ORDERS = ("activity", "name", "events", "refusals")
"""``name`` ascends; the others descend."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A repository and its weight in the chosen order, greatest first."""

    weight: int
    repository: str


class Listing:
    """Repositories and tags, page by page."""

    def __init__(self, store: Store, vocabulary: Vocabulary, tallies: Tallies) -> None:
        """All three read the same store."""
        self._store = store
        self._vocabulary = vocabulary
        self._tallies = tallies

    async def repositories(self, pattern: str, order: str, limit: int, cursor: str) -> RepositoryPage:
        """See `Audit.repositories`."""
        if order not in ORDERS:
            raise ValueError(f"{order!r} is no order; choose one of {', '.join(ORDERS)}")
        known = await self._vocabulary.values("repo")
        wanted = _pattern_test(pattern)
        names = [name for name in known if name and wanted(name)]
        rows = await self._rows(names, known, order)
        rows.sort(key=_rank)
        following = _after(rows, order, cursor)
        shown = following[:limit]
        next_cursor = cursors.write(order, shown[-1].weight, shown[-1].repository) if len(following) > limit else ""
        return RepositoryPage(await self._summaries(shown, known), len(rows), next_cursor)

    async def _rows(self, names: Sequence[str], known: Lasts, order: str) -> list[_Row]:
        if order == "name":
            return [_Row(0, name) for name in names]
        if order == "activity":
            return [_Row(known[name], name) for name in names]
        kind = "repo" if order == "events" else "refused"
        sizes = await self._tallies.ranks([entries.posting(kind, name) for name in names])
        return [_Row(size[0], name) for name, size in zip(names, sizes, strict=True)]

    async def _summaries(self, rows: Sequence[_Row], known: Lasts) -> tuple[RepositorySummary, ...]:
        names = [row.repository for row in rows]
        events = await self._tallies.ranks([entries.posting("repo", name) for name in names])
        refusals = await self._tallies.ranks([entries.posting("refused", name) for name in names])
        tags = await self._tallies.sizes(entries.tags_key(name) for name in names)
        counted = zip(names, tags, events, refusals, strict=True)
        return tuple(
            RepositorySummary(name, tag, event[0], refused[0], known[name]) for name, tag, event, refused in counted
        )

    async def tags(self, repository: str, limit: int, cursor: str) -> TagPage:
        """See `Audit.tags`."""
        key, client = entries.tags_key(repository), self._store.client
        total = int(await self._store.do(client.zcard(key)))
        highest, last_name = _tag_cursor(cursor)
        # Among tags of one millisecond a later page begins behind the name that ended the one before.
        skip = 0
        found: list[TagActivity] = []
        while len(found) <= limit:
            pairs = await self._store.do(
                client.zrevrangebyscore(key, highest, "-inf", start=skip, num=limit + 1, withscores=True)
            )
            rows = (TagActivity(name.decode(), int(score)) for name, score in pairs)
            found += [row for row in rows if not (last_name and row.last == highest and row.tag >= last_name)]
            skip += len(pairs)
            if len(pairs) <= limit:
                break
        shown = tuple(found[:limit])
        next_cursor = cursors.write("tags", shown[-1].last, shown[-1].tag) if len(found) > limit else ""
        return TagPage(shown, total, next_cursor)


def _tag_cursor(cursor: str) -> tuple[int | str, str]:
    if not cursor:
        return "+inf", ""
    last, name = cursors.read("tags", (int, str), cursor)
    return int(last), str(name)


def _rank(row: _Row) -> tuple[int, str]:
    return -row.weight, row.repository


def _after(rows: Sequence[_Row], order: str, cursor: str) -> Sequence[_Row]:
    if not cursor:
        return rows
    weight, name = cursors.read(order, (int, str), cursor)
    if not isinstance(weight, int) or not isinstance(name, str):
        raise BadCursorError("this cursor is damaged")
    return [row for row in rows if _rank(row) > (-weight, name)]


def _pattern_test(pattern: str) -> Callable[[str], bool]:
    if has_wildcard(pattern):
        return value_test(Term("repo", pattern))
    part = pattern.casefold()
    return lambda name: part in name.casefold()
