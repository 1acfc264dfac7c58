"""PUTs of ours that may land after their tag has ceased to hold, or to wait for, what they bring (H110).

A sorted set of ``<tag> <digest>``.  Whatever a delete or an overwrite takes from a tag is entered in the same step:
what it held, which may have been sent twice or to heal it, and the overwrite that was armed.  Until it can land no
more, and for as long as the upstream shows it after that, it is not taken for a push past the proxies.  What the tag
holds is what it holds, also where it is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from immuproxy.ledger import keys
from immuproxy.ledger.watch import Ages
from immuproxy.store.redis import Store

AT_ONCE = 100
"""Writes that are taken in one step."""

LEFT_MS = 60_000
"""How long they are left to whoever took them."""


@dataclass(frozen=True, slots=True)
class LateWrite:
    """One of them; ``left`` is until when it is the caller's to look at (ms)."""

    repository: str
    tag: str
    digest: str
    left: int


class LateWrites:
    """Those of all repositories; every method raises `immuproxy.store.redis.LedgerUnavailableError`."""

    def __init__(self, store: Store) -> None:
        """Use the connection of ``store``."""
        self._store = store

    async def take(self, repository: str, ages: Ages, *, quarantine_ms: int) -> list[LateWrite]:
        """Some that can land no more, or are due again, and are left to the caller now (``late_take.lua``)."""
        asked = [AT_ONCE, LEFT_MS, quarantine_ms, ages.at, ages.watched]
        left, *found = await self._store.script("late_take", [keys.late(repository)], asked)
        taken = (put.decode().split() for put in found)
        return [LateWrite(repository, tag, digest, int(left)) for tag, digest in taken]

    async def forget(self, write: LateWrite) -> None:
        """It did not land, or is gone again, or does not matter any more (``late_end.lua``)."""
        await self._end(write, "")

    async def look_again(self, write: LateWrite, *, after_ms: int) -> None:
        """It stands, and is due again after ``after_ms`` (``late_end.lua``)."""
        await self._end(write, after_ms)

    async def forget_all(self, repositories: Sequence[str]) -> None:
        """What the ledger tells of them is not to be trusted."""
        for repository in repositories:
            await self._store.do(self._store.client.delete(keys.late(repository)))

    async def _end(self, write: LateWrite, again: int | str) -> None:
        put = f"{write.tag} {write.digest}"
        await self._store.script("late_end", [keys.late(write.repository)], [put, write.left, again])
