"""Noticing that the ledger came back empty, older or as another one (H68, H105, H107).

The ledger has a lineage, a random name that changes with each loss.  Every process remembers it, and compares in one
step with each repository that it lists, which comes before each write: an empty ledger has none, and a copy that was
put back has one from before.  In the same lineage two signs are left.  A repository that this process listed before has
to be there.  And the beat, a counter of which each process leaves its last value in the ledger, must not have gone back
for this one.  A failover that lost nothing changes neither, so it is no loss.

Where steps wait for replicas the beat and a new repository do, too: what only an old master had counts as never seen.
Where they do not, a beat that a failover forgot counts as a loss although it may be the only one: what other processes
wrote in between, and the dead among them cannot say, went the same way.

A loss begins a recovery: for as long as a push that was armed before it could still land, no tag that the ledger does
not know may be set for the first time.  Tags that the upstream has are adopted meanwhile, so they stay protected.  The
new lineage tells every other process of it, also one that starts later; what was concluded of whole repositories under
another lineage is void.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

import structlog

from immuproxy.ledger import keys
from immuproxy.ledger.clock import Clock
from immuproxy.store import steady
from immuproxy.store.redis import Argument, Call, LedgerUnavailableError, Store

log = structlog.get_logger("immuproxy.ledger")

INTERVAL = 2.0
"""Seconds between two beats."""

_KEYS = (keys.REPOSITORIES, keys.LINEAGE, keys.BEATS)

_FAULTS = {
    "EMPTIED": "it was emptied",
    "OLDER": "an older copy was put back, or its last writes were lost",
    "FOREIGN": "another copy was put in its place",
    "TOLD": "another process noticed it",
}


class Epoch:
    """What this process has seen of the ledger's age.  Times are the loop's, in seconds."""

    def __init__(self, store: Store, *, quarantine: float) -> None:
        """``quarantine``: seconds that a recovery lasts."""
        self._store = store
        self.clock = Clock(store)
        self._quarantine = quarantine
        self._process = secrets.token_hex(8)
        self._lineage = ""
        self._beat = 0
        self._known: set[str] = set()
        self._recovered_at = self._sure_at = 0.0

    @property
    def lineage(self) -> str:
        """The name of the ledger since its last loss, as far as this process knows; empty before it has looked."""
        return self._lineage

    def recovering(self) -> float:
        """Seconds that the recovery still lasts; 0 when there is none."""
        return max(0.0, self._recovered_at - steady.now())

    def unsure(self) -> float:
        """Seconds for which nobody knows whether something was lost: a recovery, or the server had started anew when
        nobody was left who knew it (H119).
        """
        return max(self.recovering(), self._sure_at - steady.now())

    async def list(self, repository: str) -> str:
        """List a repository before anything is written for it, so that the sweep finds what a crash leaves.

        Returns the ledger's lineage: what was concluded of the repository under another one is void.
        """
        known = repository in self._known  # before the request: the replies of two may come in any order
        await self._look(repository, int(known), durable=not known)
        self._known.add(repository)
        return self._lineage

    async def list_and(self, repository: str, step: Call) -> Any:
        """As `list`, with a step in the repository right behind it, in one trip where that can be; its reply.

        Where a loss comes to light, the step was taken all the same, as it is behind `list`.
        """
        if repository not in self._known:
            await self.list(repository)
        asked = Call("look", _KEYS, self._asked(repository, 1))
        looked, reply = await self._store.in_one_trip(asked, step)
        self._saw(looked)
        return reply

    async def beat(self) -> None:
        """Advance the beat, and see whether anything was lost."""
        await self._look("", 0, beats=1, durable=True)

    async def watch(self) -> None:
        """Beat, and look at the clock, for ever; cancel it to stop."""
        while True:
            try:
                await self.beat()
                await self.clock.look()
            except LedgerUnavailableError as error:
                log.debug("no beat", reason=str(error))
            await asyncio.sleep(INTERVAL)

    async def _look(self, repository: str, known: int, *, beats: int = 0, durable: bool) -> None:
        """Run ``look.lua``; of one that fails nothing counts as seen."""
        run = self._store.durable_script if durable else self._store.script
        self._saw(await run("look", _KEYS, self._asked(repository, known, beats)))

    def _asked(self, repository: str, known: int, beats: int = 0) -> Sequence[Argument]:
        return [repository, known, self._process, self._lineage, self._beat, secrets.token_hex(8), beats]

    def _saw(self, reply: Sequence[Any]) -> None:
        lineage, fault = reply[0].decode(), reply[1].decode()
        doubted = int(reply[4])
        if doubted >= 0:
            self._sure_at = max(self._sure_at, steady.now() + self._quarantine - doubted / 1000)
        if lineage != self._lineage and (fault or not self._lineage):
            self._follow(lineage, fault, ago=int(reply[2]) / 1000)
        if lineage == self._lineage:  # else a loss was noticed while the reply was on its way
            self._beat = max(self._beat, int(reply[3]))

    def _follow(self, lineage: str, fault: str, *, ago: float) -> None:
        """Go on with another lineage; ``ago``: seconds since a loss was last noticed, negative where none was."""
        self._lineage, self._beat = lineage, 0
        self._known.clear()
        lasts = self._quarantine - max(0.0, ago)
        if (not fault and ago < 0) or lasts <= 0:
            return
        self._recovered_at = max(self._recovered_at, steady.now() + lasts)
        log.error(
            "ledger lost: tags that the upstream holds are adopted again, first pushes of others wait",
            what=_FAULTS.get(fault, "shortly before this process began"),
            seconds=round(lasts),
        )
