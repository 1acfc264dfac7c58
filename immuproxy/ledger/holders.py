"""Which tags hold a digest, and which need it: the index by which nobody reads every record of a repository (H86).

The index is a sorted set of ``<digest> <tag>``, all with the score 0, so that the tags of one digest lie side by side.
The scripts that change what a tag holds keep it in the same step.  A ledger from before the index has fewer entries
than tags, and is indexed when it is first asked.
"""

from __future__ import annotations

from immuproxy.ledger import keys
from immuproxy.store.redis import Store

INDEXED_AT_ONCE = 500
"""Tags in one step of the indexing."""

LOOKED_AT_ONCE = 50
MOST_LOOKED_AT = 300
"""Tags in one step, and in all, that are searched for one that needs a digest: each needs up to thousands."""


class Holders:
    """The tags by what they hold."""

    def __init__(self, store: Store) -> None:
        """Use the connection of ``store``."""
        self._store = store

    async def of(self, repository: str, digest: str, *, limit: int = -1) -> list[str]:
        """The names of the tags that hold the digest, in their order; of many the first ``limit``.

        A proxy of an older version may have changed a tag since: look at the record before anything is concluded.
        """
        await self._complete(repository)
        return await self._beside(keys.holders(repository), digest, limit)

    async def moving(self, repository: str, digest: str) -> list[str]:
        """The names of the tags that no rule holds and that were last pushed with the digest, in their order (H100).

        They may have been moved past the proxies since.
        """
        return await self._beside(keys.moving(repository), digest, -1)

    async def _beside(self, key: str, digest: str, limit: int) -> list[str]:
        found = await self._store.do(
            self._store.client.zrange(key, f"[{digest} ", f"({digest}!", bylex=True, offset=0, num=limit)
        )
        return [member.decode().partition(" ")[2] for member in found]

    async def needing(self, repository: str, digest: str) -> str:
        """One tag that needs the digest, whose name is wanted for a message; empty where it is not found soon."""
        names = await self._store.do(self._store.client.zrevrange(keys.tags(repository), 0, MOST_LOOKED_AT - 1))
        for at in range(0, len(names), LOOKED_AT_ONCE):
            tags: list[str] = [name.decode() for name in names[at : at + LOOKED_AT_ONCE]]
            place = int(await self._store.script("needed_by", [keys.tag(repository, tag) for tag in tags], [digest]))
            if place:
                return tags[place - 1]
        return ""

    async def _complete(self, repository: str) -> None:
        tags, holders = keys.tags(repository), keys.holders(repository)
        pipeline = self._store.client.pipeline(transaction=False)
        pipeline.zcard(tags)
        pipeline.zcard(holders)
        standing, indexed = await self._store.do(pipeline.execute())
        if indexed >= standing:
            return
        names = [name.decode() for name in await self._store.do(self._store.client.zrange(tags, 0, -1))]
        for at in range(0, len(names), INDEXED_AT_ONCE):
            some = names[at : at + INDEXED_AT_ONCE]
            await self._store.script("holders_index", [holders, *(keys.tag(repository, tag) for tag in some)], some)
