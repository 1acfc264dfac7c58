"""Noticing that Redis came back empty or older than it was (H68).

Two signs, neither of which needs a leader.  A repository that this process listed before has to be listed again:
everything was lost.  The beat, a counter that every proxy advances, is lower than this process has seen it: an older
copy was restored.  Where steps wait for replicas both signs do, too: what only an old master had counts as never seen,
so a failover that lost nothing else is no loss.

Either begins a recovery: for as long as a push that was armed before the loss could still land, no tag that the ledger
does not know may be set for the first time.  Tags that the upstream has are adopted meanwhile, so they stay protected.
A loss is also counted in the ledger itself, so that what was known of whole repositories is looked at again, by
whichever proxy.
"""

from __future__ import annotations

import asyncio

import structlog

from immuproxy.ledger import keys
from immuproxy.ledger.clock import Clock
from immuproxy.ledger.redis import LedgerUnavailableError, Store

log = structlog.get_logger("immuproxy.ledger")

INTERVAL = 2.0
"""Seconds between two beats."""


class Epoch:
    """What this process has seen of the ledger's age.  Times are the loop's, in seconds."""

    def __init__(self, store: Store, *, quarantine: float) -> None:
        """``quarantine``: seconds that a recovery lasts."""
        self._store = store
        self.clock = Clock(store)
        self._quarantine = quarantine
        self._beat = 0
        self._known: set[str] = set()
        self._recovered_at = 0.0
        self._untold = False
        self._beating = asyncio.Lock()

    def recovering(self) -> float:
        """Seconds that the recovery still lasts; 0 when there is none."""
        return max(0.0, self._recovered_at - asyncio.get_running_loop().time())

    async def list(self, repository: str) -> None:
        """List a repository before anything is written for it, so that the sweep finds what a crash leaves."""
        known = repository in self._known  # before the request: the replies of two may come in any order
        if known:
            new = await self._store.do(self._store.client.sadd(keys.REPOSITORIES, repository))
        else:
            new = await self._store.durably("SADD", keys.REPOSITORIES, repository)
        if new and known:
            await self._lost("the ledger was emptied")
        self._known.add(repository)

    async def beat(self) -> None:
        """Advance the beat, and see whether it went back."""
        async with self._beating:  # the replies of two may come in any order
            now = int(await self._store.durably("INCR", keys.EPOCH))
            before, self._beat = self._beat, now
            if now <= before:
                await self._lost("the ledger was emptied, or an older copy of it was restored")
            elif self._untold:
                await self._tell()

    async def era(self) -> int:
        """How many losses were noticed; what was concluded in an earlier era of a whole repository is void.

        Looks first whether there was another one.
        """
        await self.beat()
        return int(await self._store.do(self._store.client.get(keys.LOSSES)) or 0)

    async def watch(self) -> None:
        """Beat, and look at the clock, for ever; cancel it to stop."""
        while True:
            try:
                await self.beat()
                await self.clock.look()
            except LedgerUnavailableError as error:
                log.debug("no beat", reason=str(error))
            await asyncio.sleep(INTERVAL)

    async def _lost(self, what: str) -> None:
        self._known.clear()
        self._recovered_at = asyncio.get_running_loop().time() + self._quarantine
        log.error(
            "ledger lost: tags that the upstream holds are adopted again, first pushes of others wait",
            what=what,
            seconds=round(self._quarantine),
        )
        self._untold = True
        await self._tell()

    async def _tell(self) -> None:
        await self._store.do(self._store.client.incr(keys.LOSSES))
        self._untold = False
