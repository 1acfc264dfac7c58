"""How many events each repository has, remembered for as long as it had none since."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from immuproxy.ledger.audit import entries
from immuproxy.ledger.audit.tallies import Tallies
from immuproxy.ledger.audit.vocabulary import Lasts
from immuproxy.ledger.redis import Store


@dataclass(frozen=True, slots=True)
class Size:
    """``events`` of a repository, of which ``refusals`` were refused, up to the time ``last`` of its last event."""

    last: int
    events: int
    refusals: int


class Sizes:
    """The sizes of the repositories that were asked for.

    A size is remembered only when another repository had an event later: the next one of this will be later still.
    """

    def __init__(self, store: Store, tallies: Tallies) -> None:
        """Nothing is read before the first use."""
        self._store = store
        self._tallies = tallies
        self._kept: dict[str, Size] = {}
        self._oldest = b""

    async def of(self, names: Sequence[str], lasts: Lasts) -> dict[str, Size]:
        """The sizes of repositories, whose last events were at ``lasts``, as of now."""
        await self._notice_prune()
        changed = [name for name in names if (kept := self._kept.get(name)) is None or kept.last != lasts[name]]
        found = await self._read(changed, lasts)
        newest = max(lasts.values(), default=0)
        self._kept.update((name, size) for name, size in found.items() if size.last < newest)
        return {name: found.get(name) or self._kept[name] for name in names}

    async def _notice_prune(self) -> None:
        oldest = await self._store.do(self._store.client.xrange(entries.EVENTS, count=1))
        first = oldest[0][0] if oldest else b""
        if first != self._oldest:
            self._kept.clear()
            self._oldest = first

    async def _read(self, names: Sequence[str], lasts: Lasts) -> dict[str, Size]:
        events = await self._lengths("repo", names)
        refusals = await self._lengths("refused", names)
        return {name: Size(lasts[name], *pair) for name, *pair in zip(names, events, refusals, strict=True)}

    async def _lengths(self, kind: str, names: Iterable[str]) -> list[int]:
        return [row[0] for row in await self._tallies.ranks([entries.posting(kind, name) for name in names])]
