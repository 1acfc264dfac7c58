"""Whether Redis may be written, the upstream answers and can be pushed to (H26), and clients are served."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus

import structlog

from immuproxy.console.sources import PULLS, PUSHES, Dependency, status_dict
from immuproxy.edge.upstream import Upstream, UpstreamUnavailableError
from immuproxy.ledger.clock import Clock
from immuproxy.ledger.safety import Safety
from immuproxy.store import steady
from immuproxy.store.shared import Shared
from immuproxy.telemetry.metrics import Metrics

log = structlog.get_logger("immuproxy")

INTERVAL = 5.0
"""Seconds between two looks."""

NO_PUSHES = "takes no pushes: it is a pull-through cache (proxy.remoteurl) or read-only, so it cannot be protected"

_WITHOUT_REDIS = frozenset({PUSHES})
_WITHOUT_UPSTREAM = frozenset({PULLS, PUSHES})
"""Its own word is needed for each answer: who may pull, and what there is."""

LONGEST = 2.0
"""Seconds after which the upstream counts as not answering."""


JUMP_TOLD = 3600.0
"""Seconds for which a jump of the clock of Redis is told (H112)."""


class Health:
    """Puts together what is known of both parts, and says it when that changes."""

    def __init__(
        self,
        safety: Safety,
        clock: Clock,
        upstream: Upstream,
        metrics: Metrics,
        edges: Callable[[], Awaitable[Dependency]] | None = None,
    ) -> None:
        """``safety`` watches Redis, and ``clock`` its clock; ``edges`` asks the processes that serve clients, where
        they are others.
        """
        self._safety = safety
        self._clock = clock
        self._upstream = upstream
        self._metrics = metrics
        self._edges = edges
        self._said: dict[str, Dependency] = {}
        self._asking = Shared(self._asked)

    @property
    def last(self) -> Sequence[Dependency]:
        """What the last `check` found; nobody is asked, so nothing is waited for."""
        return tuple(self._said.values())

    async def parts(self) -> Sequence[Dependency]:
        """Redis and the upstream, asked now; never raises, takes at most two seconds.

        Who wants to know while they are being asked hears the same: anybody may ask, and each question may take a
        connection.
        """
        return await self._asking.ask()

    async def _asked(self) -> Sequence[Dependency]:
        _, others = await asyncio.gather(self._safety.look(), self._others())
        return self._redis(), *others

    async def _others(self) -> Sequence[Dependency]:
        return await asyncio.gather(self._registry(), *((self._edges(),) if self._edges else ()))

    async def check(self) -> None:
        """Count and say what changed: of Redis, which `Safety` watches, by its last look."""
        parts = (self._redis(), *await self._others())
        shown = status_dict(parts)
        self._metrics.ready(pulls=shown["ready"], pushes=shown["writes"], degraded=shown["status"] == "degraded")
        for part in parts:
            self._metrics.up.labels(part.name).set(part.ok)
            before = self._said.get(part.name)
            if before is None or before.ok != part.ok:
                unsafe = part.name == "redis" and self._safety.found.may_forget
                said = "answers" if part.ok else "is not safe, so nothing is written" if unsafe else "does not answer"
                (log.info if part.ok else log.error)(f"{part.name} {said}", detail=part.detail)
            elif NO_PUSHES in part.detail and NO_PUSHES not in before.detail:
                log.warning("the upstream cannot be pushed to", detail=part.detail)
            self._said[part.name] = part

    async def watch(self) -> None:
        """Check for ever; cancel it to stop."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self.check()

    def _redis(self) -> Dependency:
        found = self._safety.found
        if found.fault:
            return Dependency("redis", ok=False, detail=found.fault, stops=_WITHOUT_REDIS)
        return Dependency("redis", ok=True, detail="; ".join(filter(None, (f"version {found.version}", self._jump()))))

    def _jump(self) -> str:
        """What its clock did of late, in words; empty where it went as it should."""
        jump, now = self._clock.jump, steady.now()
        return f"{jump.words} {now - jump.seen:.0f} s ago" if jump and now - jump.seen < JUMP_TOLD else ""

    async def _registry(self) -> Dependency:
        try:
            async with asyncio.timeout(LONGEST):
                status = await self._upstream.status()
        except (UpstreamUnavailableError, TimeoutError) as error:
            return Dependency("upstream", ok=False, detail=str(error) or "no answer in time", stops=_WITHOUT_UPSTREAM)
        if status in {200, 401}:
            detail = "asks for credentials" if status == 401 else "open to all"
            if self._upstream.takes_pushes:
                return Dependency("upstream", ok=True, detail=detail)
            return Dependency("upstream", ok=True, detail=f"{detail}; {NO_PUSHES}", stops=frozenset({PUSHES}))
        stops = frozenset({PUSHES}) if status < HTTPStatus.INTERNAL_SERVER_ERROR else _WITHOUT_UPSTREAM
        return Dependency("upstream", ok=False, detail=f"answers {status} to GET /v2/", stops=stops)
