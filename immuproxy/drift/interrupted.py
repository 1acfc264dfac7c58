"""Pushes that no claim guards and whose proxy is gone: each is told as what is known of it, once (H114)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from immuproxy.audit.testimony import UnheardError
from immuproxy.edge import proof
from immuproxy.edge.cases import Cases
from immuproxy.edge.proof import Case, Sight
from immuproxy.edge.push.attempt import Limits
from immuproxy.edge.upstream import DAMAGED, UpstreamUnavailableError
from immuproxy.ledger.model import Event, Outcome
from immuproxy.ledger.register import Register
from immuproxy.ledger.watch import Ages

KEPT_MS = 24 * 3_600_000
"""For how long what was told without proof may be told again by who knows better, and nothing is told unheard."""

MOST_RECONSIDERED = 50
"""Of one repository in one pass."""


class Interrupted:
    """Tells how they ended."""

    def __init__(
        self, register: Register, cases: Cases, limits: Limits, seen: Callable[[Event, str], Awaitable[str]]
    ) -> None:
        """``seen``: the digest that the upstream shows for a reference, empty for none."""
        self._register = register
        self._cases = cases
        self._limits = limits
        self._seen = seen

    async def finish(self, intent: Event, ages: Ages) -> None:
        """Close an intent where that is known, or can be known no better.

        Raises `UnheardError` where it is left open because nobody can say for now what is recorded (H133).
        """
        # Who is not among the intents or events read from here on cannot have set what is seen here.
        seen = await self._look(intent, intent.tag or intent.digest)
        case = await self._case(intent, ages)
        ended = proof.arrived(case, seen or "")
        if ended:
            await self._register.conclude(intent.repository, ended, holds=seen == intent.digest)
            return
        if self._limits.may_still_land(ages.of(intent.time)):
            return
        stored = seen == intent.digest or await self._look(intent, intent.digest) != ""
        sight = Sight(at=await self._register.now_ms(), digest=seen, stored=stored)
        ended = proof.given_up(case, sight)
        await self._register.conclude(intent.repository, ended, unproved=True)

    async def _case(self, intent: Event, ages: Ages) -> Case:
        try:
            return await self._cases.of(intent, walk=True)
        except UnheardError:
            if ages.now - intent.time <= KEPT_MS:
                raise
            return await self._cases.unheard(intent)

    async def _look(self, intent: Event, reference: str) -> str | None:
        """None where a killed registry has left an empty link, which it cannot read (H16)."""
        try:
            return await self._seen(intent, reference)
        except UpstreamUnavailableError as error:
            if error.status != DAMAGED:
                raise
            return None

    async def reconsider(self, repository: str, ages: Ages) -> None:
        """Tell once more what was told without proof and is proved by now; forget what is old.

        Where the index cannot be asked that can wait: the walks would go far back, and be many (H133).
        """
        unproved = sorted(await self._register.unproved(repository), key=lambda event: event.time)
        old = [event.id for event in unproved if ages.now - event.time > KEPT_MS]
        await self._register.forget_unproved(repository, old)
        with suppress(UnheardError):
            for told in unproved[len(old) :][-MOST_RECONSIDERED:]:
                if told.outcome is Outcome.UNKNOWN and told.tag:
                    ended = proof.arrived(await self._cases.of(told), "")
                    if ended:
                        await self._register.conclude(repository, ended, holds=False)
