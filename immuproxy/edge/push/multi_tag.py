"""One manifest to several protected tags, ``?tag=`` of the distribution specification: all of them or none (H11).

All tags are claimed before the first is armed, and all are armed before the first is sent.  A tag that is merely
claimed goes to other content as soon as its lease has passed, an armed one not before the quarantine: so a proxy that
stands still between two tags does not find the second one taken when it has set the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from immuproxy.edge import record
from immuproxy.edge.answers import Answer
from immuproxy.edge.push.attempt import Attempt, Retry, renewed
from immuproxy.edge.push.claim_cleanup import ClaimCleanup
from immuproxy.edge.push.claiming import Claiming
from immuproxy.edge.push.model import Push
from immuproxy.edge.push.sending import Sending
from immuproxy.ledger.content import Content
from immuproxy.store.redis import LedgerUnavailableError

CREATED = 201


class MultiTag:
    """Carries pushes that stand or fall together."""

    def __init__(self, claiming: Claiming, sending: Sending, amends: ClaimCleanup) -> None:
        """The two halves of a push, and what gives back where touch with Redis was lost."""
        self._claiming = claiming
        self._sending = sending
        self._amends = amends

    async def push(self, pushes: Sequence[Push], content: Content) -> Answer:
        """Carry them to their end; see `immuproxy.edge.push.guard.Guard.push_all`."""
        left = list(pushes)
        while True:
            unsent: list[Attempt] = []
            try:
                answer = await self._claim_all(left, content, unsent)
                if answer is None:
                    answer = await self._carry_all(unsent, left)
                return pushes[0].created() if answer is None else answer
            except Retry:
                left = [renewed(push) for push in left]
            finally:
                await self._give_back(unsent)

    async def _claim_all(self, left: list[Push], content: Content, claimed: list[Attempt]) -> Answer | None:
        """Fill ``claimed`` with what is to be sent; the first answer that refuses a tag, if one does.

        What holds the content already is on record as unchanged and goes out of ``left``: no push is told twice.
        """
        for push in tuple(left):
            attempt = Attempt(push, content, record.new_token())
            with self._amends.owed(attempt):
                answer = await self._claiming.acquire(attempt)
            if answer is None:
                claimed.append(attempt)
            elif answer.status == CREATED:
                left.remove(push)
            else:
                return answer
        return await self._judge_again(claimed[:-1])

    async def _judge_again(self, claimed: Sequence[Attempt]) -> Answer | None:
        """Those that may have waited for the claims of others; what was taken over is already on its way."""
        for attempt in claimed:
            answer = await self._claiming.judge_again(attempt) if attempt.resumed is None else None
            if answer is not None:
                return answer
        return None

    async def _carry_all(self, unsent: list[Attempt], left: list[Push]) -> Answer | None:
        """Arm all, then send one by one; the first answer that is no success.

        Each is taken out of ``unsent`` before it is sent, and out of ``left`` when it is committed.
        """
        for attempt in unsent:
            await self._sending.arm(attempt)
        while unsent:
            attempt = unsent.pop(0)
            with self._amends.owed(attempt):
                await self._sending.renew(attempt)
                answer = await self._sending.send(attempt)
            if answer.status != CREATED:
                return answer
            left.remove(attempt.push)
        return None

    async def _give_back(self, unsent: list[Attempt]) -> None:
        """What was never sent goes, armed or not; what was taken over from somebody else may yet arrive and stays."""
        while unsent:
            attempt = unsent.pop()
            if attempt.resumed is not None:
                self._amends.owe(attempt)
                continue
            with suppress(LedgerUnavailableError), self._amends.owed(attempt):
                await self._claiming.release(attempt)
