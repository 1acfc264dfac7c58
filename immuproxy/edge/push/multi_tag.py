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
from immuproxy.edge.push.model import Push
from immuproxy.edge.push.protocol import Guard
from immuproxy.ledger.content import Content
from immuproxy.store.redis import LedgerUnavailableError

CREATED = 201


class MultiTag:
    """Carries pushes that stand or fall together."""

    def __init__(self, guard: Guard, cleanup: ClaimCleanup) -> None:
        """Both are shared with the pushes to one tag."""
        self._guard = guard
        self._cleanup = cleanup

    async def push(self, pushes: Sequence[Push]) -> Answer:
        """Carry pushes of one manifest to several tags.

        ``pushes`` in the order of their tags, so that two such pushes cannot wait for each other.  Returns the first
        answer that is no success; what was set before the upstream gave that answer stays set.  Raises like
        `Guard.push`.
        """
        refused = await self._guard.refused(pushes)
        return refused or await self._to_their_end(pushes, await self._guard.content(pushes[0]))

    async def _to_their_end(self, pushes: Sequence[Push], content: Content) -> Answer:
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
            with self._cleanup.owed(attempt):
                answer = await self._guard.acquire(attempt)
            if answer is None:
                claimed.append(attempt)
            elif answer.status == CREATED:
                left.remove(push)
            else:
                return answer
        return await self._evaluate_again(claimed[:-1])

    async def _evaluate_again(self, claimed: Sequence[Attempt]) -> Answer | None:
        """Those that may have waited for the claims of others; what was taken over is already on its way."""
        for attempt in claimed:
            answer = await self._guard.evaluate_again(attempt) if attempt.resumed is None else None
            if answer is not None:
                return answer
        return None

    async def _carry_all(self, unsent: list[Attempt], left: list[Push]) -> Answer | None:
        """Arm all, then send one by one; the first answer that is no success.

        Each is taken out of ``unsent`` before it is sent, and out of ``left`` when it is committed.
        """
        for attempt in unsent:
            await self._guard.arm(attempt)
        while unsent:
            attempt = unsent.pop(0)
            with self._cleanup.owed(attempt):
                await self._guard.renew(attempt)
                answer = await self._guard.send(attempt)
            if answer.status != CREATED:
                return answer
            left.remove(attempt.push)
        return None

    async def _give_back(self, unsent: list[Attempt]) -> None:
        """What was never sent goes, armed or not; what was taken over from somebody else may yet arrive and stays."""
        while unsent:
            attempt = unsent.pop()
            if attempt.resumed is not None:
                self._cleanup.owe(attempt)
                continue
            with suppress(LedgerUnavailableError), self._cleanup.owed(attempt):
                await self._guard.release(attempt)
