"""Collects what is recorded beside a push or delete of unknown outcome, for those who judge what that proves (H114)."""

from __future__ import annotations

from collections.abc import Sequence

from immuproxy.audit.testimony import Testimony, Witnesses
from immuproxy.edge import proof
from immuproxy.edge.proof import Case
from immuproxy.edge.push.attempt import Limits
from immuproxy.ledger.model import Event
from immuproxy.ledger.register import Register

_NOTHING = Testimony((), whole=False)

_SKEW_MS = 60_000
"""By how much the clocks of proxies may differ from that of Redis without a witness being overlooked."""


class Cases:
    """Asks the intents and the witnesses."""

    def __init__(self, register: Register, witnesses: Witnesses, limits: Limits) -> None:
        """All parts are shared with those who write what is read here."""
        self._register = register
        self._witnesses = witnesses
        self._limits = limits

    async def of(self, intent: Event, *, walk: bool = False) -> Case:
        """All that is known of an intent or of what was told of it, by now.

        What the upstream shows has to be asked for before this: who is not among what is read here cannot have set it.
        ``walk``: as for `Witnesses`.  Raises `UnheardError` and `LedgerUnavailableError`.
        """
        since = self._since(intent) if intent.tag else 0
        others = await self._register.intents(intent.repository)
        found = await self._witnesses.of(intent.repository, intent.digest, since=since, walk=walk)
        return self._case(intent, others, found)

    async def unheard(self, intent: Event) -> Case:
        """The same where nobody is asked any more: proof of nothing.  Raises `LedgerUnavailableError`."""
        return self._case(intent, await self._register.intents(intent.repository), _NOTHING)

    async def of_delete(self, intent: Event) -> Case:
        """The same of a delete: of its tag, or of the content that it names.  Raises them as well."""
        since = self._since(intent)
        others = await self._register.intents(intent.repository)
        if intent.tag:
            found = await self._witnesses.of_tag(intent.repository, intent.tag, since=since, walk=True)
        else:
            found = await self._witnesses.of(intent.repository, intent.digest, since=since, walk=True)
        return self._case(intent, others, found)

    def _since(self, intent: Event) -> int:
        """From when on somebody may be a witness (ms)."""
        return max(0, proof.began(intent) - self._limits.quarantine_ms - _SKEW_MS)

    def _case(self, intent: Event, others: Sequence[Event], found: Testimony) -> Case:
        return Case(
            intent=intent,
            recorded=found.events,
            others=others,
            whole=found.whole,
            quarantine=self._limits.quarantine_ms,
        )
