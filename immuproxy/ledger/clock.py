"""The two times of the ledger, which may be told by a clock that jumps.

*How long ago, at least*: of whatever is to be taken away from others (`Ages`, H112).  *What time it is, at the latest*:
of whatever is allowed for a while; this time never goes back, for any proxy and over their restarts, and where the
clock leaps ahead it leaps, too (``scripts/clock.lua``, H113).  Dates that are shown are those of Redis as they were.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from immuproxy.ledger import keys
from immuproxy.ledger.watch import Ages, Watch
from immuproxy.store import steady
from immuproxy.store.redis import LedgerUnavailableError, Store
from immuproxy.store.steady import Sample

log = structlog.get_logger("immuproxy.ledger")


@dataclass(frozen=True, slots=True)
class Jump:
    """By how many seconds the clock of Redis has jumped, below 0 where it went back; ``seen`` by the loop's clock."""

    seconds: float
    seen: float

    @property
    def words(self) -> str:
        """What happened, as a clause."""
        way = "leapt ahead" if self.seconds > 0 else "went back"
        return f"its clock {way} by {abs(self.seconds):.0f} s"


def _nothing(_seconds: float) -> None:
    pass


async def ledger_time(store: Store, least: int = 0) -> int:
    """What time it is by Redis, at the latest (``clock.lua``), in ms; ``least``: what is known of it."""
    return int(await store.script("clock", [keys.CLOCK], [least]))


class Clock:
    """What one process knows of them."""

    def __init__(self, store: Store) -> None:
        """Nothing is asked before the first question."""
        self._store = store
        self._watches: dict[str, Watch] = {}
        self._looking = asyncio.Lock()
        self._latest = 0
        self._began = self._looked = 0.0
        self._failed: LedgerUnavailableError | None = None
        self.jump: Jump | None = None
        """The last one that this process has seen."""
        self.jumped: Callable[[float], None] = _nothing
        """Is told each, in seconds."""

    async def time(self) -> int:
        """What time it is for what is allowed for a while: ms since 1970, by the last look and the own clock."""
        if not self._looked:
            await self.look()
        return self._estimate()

    async def looked(self) -> int:
        """The same after a look."""
        await self.look()
        return self._estimate()

    async def look(self) -> None:
        """Ask Redis, on a cluster each master, what time it is; those who come meanwhile share the next question.

        Raises `immuproxy.store.redis.LedgerUnavailableError`.
        """
        asked = steady.now()
        async with self._looking:
            if self._began < asked:
                await self._look_once()
            elif self._failed is not None:
                raise self._failed

    async def ages(self, key: str) -> Ages:
        """For a script on ``key``, which knows by itself what Redis says."""
        return (await self._watch(key)).ages(steady.now())

    async def ages_now(self, key: str) -> Ages:
        """For whoever is no script."""
        await self._watch(key)
        asked, now = steady.now(), await self._store.time_at(key)
        await self.check(key, now, asked=asked)
        return (await self._watch(key)).ages(steady.now(), now)

    async def check(self, key: str, now: int, *, asked: float) -> None:
        """Look anew where Redis, ``asked`` for something else, says a time that nobody expected."""
        watch = self._watches.get(self._store.node(key))
        if watch is None or not watch.is_expected(Sample(now, asked, steady.now())):
            await self.look()

    async def _watch(self, key: str) -> Watch:
        if not self._looked or self._store.node(key) not in self._watches:
            await self.look()
        node = self._store.node(key)
        return self._watches.setdefault(node, Watch())

    async def _look_once(self) -> None:
        before, self._began = self._began, steady.now()
        try:
            await self._look()
        except LedgerUnavailableError as error:
            self._failed = error
            raise
        except BaseException:
            self._began = before  # whoever waits asks for itself
            raise
        self._failed = None

    async def _look(self) -> None:
        for node, sample in (await self._store.times()).items():
            jump = self._watches.setdefault(node, Watch()).saw(sample)
            if jump:
                self._tell(Jump(jump, sample.answered))
        least = self._estimate() if self._looked else 0
        self._latest = max(least, await ledger_time(self._store, least))
        self._looked = steady.now()

    def _tell(self, jump: Jump) -> None:
        self.jump = jump
        self.jumped(jump.seconds)
        log.error(
            "the clock of Redis jumped: whoever owns a tag keeps it for all of its time from now on, and what was "
            "allowed until some time is not allowed again; let NTP slew the clock of that machine",
            what=jump.words,
            seconds=round(jump.seconds, 1),
        )

    def _estimate(self) -> int:
        return self._latest + int((steady.now() - self._looked) * 1000)
