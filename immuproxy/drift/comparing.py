"""Comparing what the ledger holds with what the upstream shows, repository by repository, without a leader.

Whoever comes first holds a repository and walks over its tags in order.  How far it came is kept, so that the next one
goes on from there when a proxy is stopped or the upstream goes away: else the last tags of a large repository would
never be looked at.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import structlog
from multidict import CIMultiDict

from immuproxy.drift.apart import apart
from immuproxy.drift.healer import Healer
from immuproxy.drift.pace import RateLimit
from immuproxy.edge.upstream import Upstream, UpstreamUnavailableError
from immuproxy.ledger.register import Register
from immuproxy.store.redis import LedgerUnavailableError

log = structlog.get_logger("immuproxy.sweep")

COMPARED_EVERY = 600
"""Seconds between two comparisons of a repository with the upstream, by whichever proxy comes first."""

HELD = 60
"""Seconds after which another goes on with a repository whose proxy is gone in the middle."""

KEPT_EVERY = 100
"""Tags between two notes of how far it came; `RATE` of them pass in a fraction of `HELD`."""

MOST_FAILURES = 3
"""Tags in a row that the upstream may fail to tell of before it is asked whether it answers at all."""

RATE = 20
"""Tags compared in a second by one proxy, over all repositories."""

_DENIED = {401, 403}
_ORDER = random.Random()  # noqa: S311  # an order, no secret; of its own, so that nobody's seed is used up


def _nothing(_result: str) -> None:
    pass


class Comparison:
    """Walks over what the ledger holds."""

    def __init__(
        self,
        register: Register,
        healer: Healer,
        upstream: Upstream,
        *,
        rate: float = RATE,
        counted: Callable[[str], None] = _nothing,
    ) -> None:
        """``counted`` is told ``agrees``, ``drifted`` or ``unanswered`` for each tag."""
        self._register = register
        self._healer = healer
        self._upstream = upstream
        self._pace = RateLimit(rate)
        self._counted = counted
        self._skip_again = 0.0

    async def once(self) -> None:
        """One look at every repository that is due; raises `LedgerUnavailableError`.

        In an order of its own, so that several proxies do not ask for the same ones.
        """
        known = await self._register.repositories()
        repositories = await self._register.tagged(known)
        await self._skip({*known} - {*repositories})
        _ORDER.shuffle(repositories)
        for repository in repositories:
            if await self._register.comparisons.take(repository, seconds=HELD):
                await apart(self._compare(repository), self._register.now_ms, repository=repository)

    async def _skip(self, empty: set[str]) -> None:
        """Repositories without tags count as compared, all at once and as rarely as others are."""
        now = asyncio.get_running_loop().time()
        if now >= self._skip_again:
            self._skip_again = now + COMPARED_EVERY
            await self._register.comparisons.nothing_to_compare(sorted(empty))

    async def _compare(self, repository: str) -> None:
        begun = await self._register.comparisons.place(repository)
        tags = sorted(tag for tag in await self._register.tags(repository) if tag > begun)
        unanswered: list[str] = []
        whole = True
        for number, tag in enumerate(tags, 1):
            await self._pace.turn()
            try:
                agrees = await self._healer.check(await self._register.read(repository, tag))
            except UpstreamUnavailableError as error:
                log.warning("not compared", repository=repository, tag=tag, reason=str(error))
                self._counted("unanswered")
                unanswered.append(tag)
                whole = False
                if error.status in _DENIED or (len(unanswered) == MOST_FAILURES and not await self._answers()):
                    return  # it is left as it stands; another goes on with it when nobody holds it any more
                if len(unanswered) == MOST_FAILURES:
                    unanswered.clear()
            except LedgerUnavailableError as error:
                await self._register.now_ms()  # raises where it is not this tag alone
                log.warning("not compared", repository=repository, tag=tag, reason=str(error))
                whole = False
            except Exception:
                log.exception("not compared", repository=repository, tag=tag)
                whole = False
            else:
                self._counted("agrees" if agrees else "drifted")
                unanswered.clear()
            if number % KEPT_EVERY == 0 and not unanswered:
                await self._register.comparisons.keep(repository, tag, seconds=HELD)
        await self._register.comparisons.end(repository, seconds=COMPARED_EVERY)
        if whole:
            await self._register.comparisons.finish(repository)

    async def _answers(self) -> bool:
        """Whether it is only some tags that the upstream does not tell of."""
        try:
            answer = await self._upstream.exchange("GET", "/v2/", CIMultiDict())
        except UpstreamUnavailableError:
            return False
        return answer.status < 500
