"""The names of the tags that a repository has now, as far as the proxy knows."""

from __future__ import annotations

from collections.abc import AsyncIterator

from immuproxy.ledger import keys
from immuproxy.store.redis import Store

_CHUNK = 2_000


async def standing_tags(store: Store, repository: str) -> AsyncIterator[list[str]]:
    """In parts and in no order, each name once: those that the ledger holds, and those of no rule that were pushed and
    not deleted since.  Raises `LedgerUnavailableError`.
    """
    client, key = store.client, keys.tags(repository)
    seen: set[str] = set()
    start = 0
    while found := await store.do(client.zrange(key, start, start + _CHUNK - 1)):
        names = [name.decode() for name in found]
        seen.update(names)
        yield names
        start += len(names)
    place = -1
    while place:
        place, part = await store.do(client.hscan(keys.moved(repository), max(place, 0), count=_CHUNK))
        fresh = {name.decode() for name in part} - seen
        seen |= fresh
        yield sorted(fresh)
