"""Whether the upstream accepts the proxy's own account, said when that changes.

Clients do not notice that it does not: pushes and pulls go on with their own credentials, while nothing is compared or
healed, and what a lost proxy has left waits for the next client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from immuproxy.drift.polite_client import AccountRefusedError, Questions
from immuproxy.edge.caller import Caller
from immuproxy.edge.upstream import Upstream, UpstreamUnavailableError

log = structlog.get_logger("immuproxy")

INTERVAL = 60.0
"""Seconds between two looks: often enough to tell when the account is right again, too seldom to lock it."""


class Account:
    """Asks, and remembers what it has said."""

    def __init__(self, upstream: Upstream, caller: Caller, username: str, accepted: Callable[[bool], None]) -> None:
        """``upstream`` and ``caller`` as the account; ``accepted`` is told each answer."""
        self._questions = Questions(upstream, caller)
        self._username = username
        self._told = accepted
        self._accepted = True

    async def check(self) -> None:
        """Ask once; an upstream that does not answer tells nothing of the account."""
        try:
            await self._questions.alive()
        except AccountRefusedError:
            self._say(accepted=False)
        except UpstreamUnavailableError as error:
            log.debug("the account was not looked at", reason=str(error))
        else:
            self._say(accepted=True)

    async def watch(self) -> None:
        """Check for ever; cancel it to stop."""
        while True:
            await self.check()
            await asyncio.sleep(INTERVAL)

    def _say(self, *, accepted: bool) -> None:
        self._told(accepted)
        if accepted and not self._accepted:
            log.info("the upstream accepts the proxy's own account again", username=self._username)
        elif self._accepted and not accepted:
            log.error(
                "the upstream refuses the proxy's own account, so tags are neither compared nor healed:"
                " set upstream.username and its password right, and start again",
                username=self._username,
            )
        self._accepted = accepted
