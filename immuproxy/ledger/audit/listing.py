"""Pages of repositories, as the audit knows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from immuproxy.ledger.audit import cursors, entries
from immuproxy.ledger.audit.matching import value_test
from immuproxy.ledger.audit.sizes import Sizes
from immuproxy.ledger.audit.tallies import Tallies
from immuproxy.ledger.audit.values import BadCursorError, RepositoryPage, RepositorySummary
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
    """Repositories, page by page."""

    def __init__(self, store: Store, vocabulary: Vocabulary, tallies: Tallies) -> None:
        """All three read the same store."""
        self._vocabulary = vocabulary
        self._tallies = tallies
        self._sizes = Sizes(store, tallies)

    async def repositories(self, pattern: str, order: str, limit: int, cursor: str) -> RepositoryPage:
        """See `Audit.repositories`."""
        if order not in ORDERS:
            raise ValueError(f"{order!r} is no order; choose one of {', '.join(ORDERS)}")
        known = await self._vocabulary.repositories()
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
        sizes = await self._sizes.of(names, known)
        if order == "events":
            return [_Row(sizes[name].events, name) for name in names]
        return [_Row(sizes[name].refusals, name) for name in names]

    async def _summaries(self, rows: Sequence[_Row], known: Lasts) -> tuple[RepositorySummary, ...]:
        names = [row.repository for row in rows]
        sizes = await self._sizes.of(names, known)
        tags = await self._tallies.sizes(entries.tags_key(name) for name in names)
        return tuple(
            RepositorySummary(name, tag, sizes[name].events, sizes[name].refusals, known[name])
            for name, tag in zip(names, tags, strict=True)
        )


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
