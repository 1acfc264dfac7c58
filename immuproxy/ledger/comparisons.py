"""The comparison of all tags with the upstream: whose turn it is, how far it is, and when it was last done.

Every method raises `immuproxy.store.redis.LedgerUnavailableError` when Redis does not answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from immuproxy.ledger import keys
from immuproxy.store.redis import Store

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Compared:
    """How far the comparison with the upstream is.

    ``repositories`` were compared at least once, of ``known``; ``newest`` and ``oldest`` are the times (ms) of the
    latest comparison of any of them, and of the one that waits longest, which is named.
    """

    known: int
    repositories: int = 0
    newest: int | None = None
    oldest: int | None = None
    oldest_repository: str = ""


class Comparisons:
    """Over one ledger; all proxies share the turns."""

    def __init__(self, store: Store) -> None:
        """Use the connection of ``store``."""
        self._store = store

    async def take(self, repository: str, *, seconds: int) -> bool:
        """Whether nobody has compared the repository for ``seconds``; if so, the caller does it now."""
        return bool(await self._store.do(self._store.client.set(keys.compared(repository), 1, nx=True, ex=seconds)))

    async def place(self, repository: str) -> str:
        """The last tag that an unfinished comparison has looked at; empty where it begins with the first."""
        return (await self._store.do(self._store.client.get(keys.compared_to(repository))) or b"").decode()

    async def keep(self, repository: str, tag: str, *, seconds: int) -> None:
        """All tags up to ``tag`` have been looked at, and the repository is held for ``seconds`` more."""
        pipeline = self._store.client.pipeline(transaction=False)
        pipeline.set(keys.compared_to(repository), tag)
        pipeline.set(keys.compared(repository), 1, ex=seconds)
        await self._store.do(pipeline.execute())

    async def end(self, repository: str, *, seconds: int) -> None:
        """All tags have been looked at; the next comparison is due in ``seconds``, and begins with the first one."""
        pipeline = self._store.client.pipeline(transaction=False)
        pipeline.delete(keys.compared_to(repository))
        pipeline.set(keys.compared(repository), 1, ex=seconds)
        await self._store.do(pipeline.execute())

    async def finish(self, repository: str) -> None:
        """All tags of the repository have been compared just now, and the upstream told of each."""
        await self._store.do(self._store.client.zadd(keys.COMPARISONS, {repository: await self._store.now_ms()}))

    async def nothing_to_compare(self, repositories: Sequence[str]) -> None:
        """These have no tags."""
        now = await self._store.now_ms()
        for at in range(0, len(repositories), _CHUNK):
            none = dict.fromkeys(repositories[at : at + _CHUNK], now)
            await self._store.do(self._store.client.zadd(keys.COMPARISONS, none))

    async def progress(self) -> Compared:
        """How far the comparison of all repositories is."""
        pipeline = self._store.client.pipeline(transaction=False)
        pipeline.scard(keys.REPOSITORIES)
        pipeline.zcard(keys.COMPARISONS)
        pipeline.zrange(keys.COMPARISONS, 0, 0, withscores=True)
        pipeline.zrange(keys.COMPARISONS, -1, -1, withscores=True)
        known, count, oldest, newest = await self._store.do(pipeline.execute())
        if not count:
            return Compared(int(known))
        ((name, first),), ((_, last),) = oldest, newest
        return Compared(int(known), int(count), int(last), int(first), name.decode())
