"""Giving back what a push may own that lost touch with Redis (H65).

A command whose reply did not come may have been taken, or be taken yet.  Its claim would keep others from the tag until
the lease ends, so it is given back as soon as Redis answers again; the client has its 503 by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from immuproxy.edge.push.attempt import Attempt
from immuproxy.ledger.model import Step
from immuproxy.ledger.register import Register
from immuproxy.store.redis import LedgerUnavailableError

PAUSE = 1.0
"""Seconds between two tries; the last command of a push may be taken later than the first of these."""


class ClaimCleanup:
    """What is owed, and the work of giving it back."""

    def __init__(self, register: Register, *, lease: float) -> None:
        """``lease``: seconds after which every claim has ended by itself."""
        self._register = register
        self._lease = lease
        self._owed: set[asyncio.Task[None]] = set()

    def owe(self, attempt: Attempt) -> None:
        """Give back what ``attempt`` may own; does not wait.  Nothing may be sent for it any more."""
        task = asyncio.create_task(self._give_back(attempt))
        self._owed.add(task)
        task.add_done_callback(self._owed.discard)

    @contextmanager
    def owed(self, attempt: Attempt) -> Iterator[None]:
        """Where touch with Redis is lost in here, whatever the attempt owns by then is given back later."""
        try:
            yield
        except LedgerUnavailableError:
            self.owe(attempt)
            raise

    async def ended(self) -> None:
        """Give up what is still owed: its lease will end."""
        for task in self._owed:
            task.cancel()
        await asyncio.gather(*self._owed, return_exceptions=True)

    async def _give_back(self, attempt: Attempt) -> None:
        push, clock = attempt.push, asyncio.get_running_loop().time
        own_event = "" if attempt.sent or attempt.resumed else push.draft.id
        answered, until = 0, clock() + self._lease
        while answered < 2 and clock() < until:
            await asyncio.sleep(PAUSE)
            try:
                step = await self._register.give_back(
                    push.repository, push.tag, token=attempt.token, own_event=own_event
                )
            except LedgerUnavailableError:
                continue
            answered += 2 if step is not Step.LOST else 1
