"""Collects what is recorded beside a push of unknown outcome, for `immuproxy.proxy.proof` to judge (H114)."""

from __future__ import annotations

from immuproxy.ledger.audit import Witnesses
from immuproxy.ledger.model import Event
from immuproxy.ledger.register import Register
from immuproxy.proxy import proof
from immuproxy.proxy.attempt import Limits
from immuproxy.proxy.proof import Case

_SKEW_MS = 60_000
"""By how much the clocks of proxies may differ from that of Redis without a witness being overlooked."""


class Cases:
    """Asks the intents and the witnesses."""

    def __init__(self, register: Register, witnesses: Witnesses, limits: Limits) -> None:
        """All parts are shared with those who write what is read here."""
        self._register = register
        self._witnesses = witnesses
        self._limits = limits

    async def of(self, intent: Event) -> Case:
        """All that is known of an intent or of what was told of it, by now.

        What the upstream shows has to be asked for before this: who is not among what is read here cannot have set it.
        Raises `LedgerUnavailableError`.
        """
        others = await self._register.intents(intent.repository)
        since = proof.began(intent) - self._limits.quarantine_ms - _SKEW_MS if intent.tag else 0
        found = await self._witnesses.of(intent.repository, intent.digest, since=max(0, since))
        return Case(
            intent=intent,
            recorded=found.events,
            others=others,
            whole=found.whole,
            quarantine=self._limits.quarantine_ms,
        )
