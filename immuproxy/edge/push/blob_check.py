"""Looking at blobs before a tag comes to need them, most of them ahead of time (H25).

A first push needs a byte of each blob that its manifest names, because a registry's word alone does not tell that a
blob can be pulled.  Such a look is dear: distribution 2.8 sets four MiB aside for each blob that it opens.  So it is
begun as soon as a client's upload, mount or look at a blob has passed, while the client goes on with the next one, and
what was found then holds for a moment.

What could make it untrue is a delete.  Every delete through any proxy ends with a step that counts it, and has its mark
until then.  The count is read before the look, and again in the step that claims the tag: from there on no delete of
what it needs is granted, and where one was still marked there would be no claim.  So an unchanged count says that none
has come between.  What is changed at the registry itself, by garbage collection say, is missed where it falls into the
moment; collection while pushes go on breaks pushes after their commit in the same way (H36).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cachetools import FIFOCache

from immuproxy.edge.caller import Caller
from immuproxy.edge.upstream import Upstream, UpstreamUnavailableError
from immuproxy.ledger.register import Register
from immuproxy.store.redis import LedgerUnavailableError

REMEMBERED = 10.0
"""Seconds."""

MOST = 10_000
"""Blobs that are remembered; what was seen first is forgotten first."""

MAX_AHEAD = 64
"""Looks ahead of time that may wait for their turn; what does not fit is looked at when it is pushed."""

AHEAD_AT_ONCE = 4
ASKED_AT_ONCE = 8
"""Blobs that the upstream is asked for at the same time: ahead of all pushes, and for one push."""

Place = tuple[str, str]


class BlobChecks:
    """What was seen of blobs; only that a byte came is ever remembered."""

    def __init__(self, register: Register, upstream: Upstream) -> None:
        """Deletes are counted by ``register``."""
        self._register = register
        self._upstream = upstream
        self._seen: FIFOCache[Place, tuple[float, int]] = FIFOCache(MOST)
        self._ahead: dict[Place, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(AHEAD_AT_ONCE)

    def ahead(self, repository: str, digest: str, caller: Caller) -> None:
        """Look at a blob in the background; the upstream has just said to ``caller`` that it is there."""
        place = (repository, digest)
        if place in self._ahead or len(self._ahead) >= MAX_AHEAD:
            return
        task = asyncio.create_task(self._look_ahead(place, caller))
        self._ahead[place] = task
        task.add_done_callback(lambda _: self._ahead.pop(place, None))

    async def lacking(self, repository: str, blobs: Sequence[str], caller: Caller, *, deletes: int) -> str:
        """One of the blobs that the upstream does not give out; empty when it gives out all.

        ``deletes``: how many had ended when the push came to have its claim.  Raises `UpstreamUnavailableError`.
        """
        for at in range(0, len(blobs), ASKED_AT_ONCE):
            batch = blobs[at : at + ASKED_AT_ONCE]
            found = await asyncio.gather(*(self._is_there((repository, blob), deletes, caller) for blob in batch))
            if not all(found):
                return batch[found.index(False)]
        return ""

    async def ended(self) -> None:
        """Give up what is looked at ahead of time."""
        tasks = list(self._ahead.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_ahead(self, place: Place, caller: Caller) -> None:
        try:
            async with self._turns:
                await self._look(place, await self._register.deletes(place[0]), caller)
        except (LedgerUnavailableError, UpstreamUnavailableError):
            pass  # it is looked at when it is pushed

    async def _is_there(self, place: Place, deletes: int, caller: Caller) -> bool:
        under_way = self._ahead.get(place)
        if under_way is not None:
            await asyncio.wait({under_way})
        until, counted = self._seen.get(place, (0.0, 0))
        if counted == deletes and until > asyncio.get_running_loop().time():
            return True
        return await self._look(place, deletes, caller)

    async def _look(self, place: Place, deletes: int, caller: Caller) -> bool:
        """``deletes``: the count from before the look."""
        began = asyncio.get_running_loop().time()
        self._seen.pop(place, None)
        found = await self._upstream.has_blob(*place, caller)
        if found:
            self._seen[place] = began + REMEMBERED, deletes
        return found
