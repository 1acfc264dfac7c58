"""The second half of a guarded push: arm -> one PUT -> verify -> commit (H16, H25, H62, H63, H65)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from immuproxy.edge import record
from immuproxy.edge.answers import Answer
from immuproxy.edge.failpoints import Failpoint, reach
from immuproxy.edge.push.attempt import Attempt, Limits, Retry
from immuproxy.edge.push.model import is_stored
from immuproxy.edge.push.platforms import Platforms
from immuproxy.edge.push.retry import insist, once_more
from immuproxy.edge.recovery import Recovery
from immuproxy.edge.refusals import first_message
from immuproxy.edge.upstream import OutcomeUnknownError, Upstream
from immuproxy.ledger.model import Event, Outcome, Step
from immuproxy.ledger.register import Register
from immuproxy.oci import errors
from immuproxy.store.redis import LedgerUnavailableError


class Sending:
    """From the claim to the commit."""

    def __init__(
        self, register: Register, upstream: Upstream, recovery: Recovery, limits: Limits, platforms: Platforms
    ) -> None:
        """All parts are shared with the other ways of a request."""
        self._register = register
        self._upstream = upstream
        self._recovery = recovery
        self._limits = limits
        self._platforms = platforms

    async def arm(self, attempt: Attempt) -> None:
        """Write the intent; from now on no other content takes the tag before the quarantine has passed.

        Raises `Retry` when the claim was lost.
        """
        self._platforms.begin(attempt.push.repository, attempt.push.manifest, attempt.push.caller)
        closing = None
        if attempt.resumed is not None:
            closing = await self._recovery.taken_over(attempt.resumed)
            attempt.over_digest = attempt.resumed.committed.digest if attempt.resumed.committed else ""
        await self._arm(attempt, closing)

    async def renew(self, attempt: Attempt) -> None:
        """Begin the lease anew where some of it has passed since the arming; raises `Retry` when the claim was lost."""
        if self._age(attempt) > self._limits.put:
            await self._arm(attempt, None)

    async def send(self, attempt: Attempt) -> Answer:
        """Send what is armed, and commit it; what a lost owner has sent may have arrived already."""
        if attempt.resumed is not None and await is_stored(self._upstream, attempt.push):
            return await self._commit(attempt)
        return await self._send(attempt)

    async def _arm(self, attempt: Attempt, closing: Event | None) -> None:
        push = attempt.push
        verdict = attempt.verdict
        intent = replace(push.draft, shadow=verdict.shadow if verdict else False)
        attempt.armed_at = asyncio.get_running_loop().time()
        reply = await once_more(
            lambda: self._register.arm(
                push.repository,
                push.tag,
                attempt.content,
                token=attempt.token,
                lease_ms=self._limits.lease_ms,
                draft=intent,
                closing=closing,
            )
        )
        if reply.step is Step.LOST:
            raise Retry
        reach(Failpoint.POST_ARM)

    async def _send(self, attempt: Attempt) -> Answer:
        """The PUT; from here on the outcome may stay unknown, and then the claim stays too (H63)."""
        try:
            return await self._put(attempt)
        except (Retry, LedgerUnavailableError):
            raise
        except Exception:
            await self._let_go(attempt)
            raise

    async def _put(self, attempt: Attempt) -> Answer:
        """One PUT; after an unknown outcome and a look that shows nothing, one more of the same bytes.

        Only while the claim is still ours: a reader may have finished it by what the first PUT stored, and the tag may
        have been deleted or overwritten since.
        """
        push = attempt.push
        for sent in range(2):
            if sent:
                try:
                    await self._arm(attempt, None)
                except Retry:
                    return await self._overtaken(attempt)
            until = self._check_lease(attempt)
            reach(Failpoint.PUT_SENT)
            attempt.sent = True
            try:
                answer = await self._upstream.put_manifest(
                    push.repository, push.tag, push.manifest.body, push.caller, until=until
                )
            except OutcomeUnknownError:
                answer = None
            reach(Failpoint.PUT_APPLIED)
            if answer is not None and answer.status >= 300:
                return await self._rejected(attempt, answer, sent)
            if await is_stored(self._upstream, push):
                return await self._commit(attempt)
        raise errors.unavailable("the upstream did not store the push; try again, the tag is kept for this content")

    async def _overtaken(self, attempt: Attempt) -> Answer:
        """Others have finished this push or given it up; where the tag holds nothing any more, only they know which."""
        try:
            return await self._commit(attempt)
        except Retry:
            found = await self._register.read(attempt.push.repository, attempt.push.tag)
            if found.committed:
                raise
        raise errors.unavailable("the tag was deleted, or this push given up, before its outcome was known; try again")

    def _check_lease(self, attempt: Attempt) -> float:
        """Until when the PUT may be sent, so that it arrives within the lease.

        This process may have stood still since it armed the claim (H62).
        """
        until = self._limits.until(attempt.armed_at)
        if asyncio.get_running_loop().time() > until:
            raise errors.unavailable("the proxy stood still for too long in the middle of this push; try again")
        return until

    def _age(self, attempt: Attempt) -> float:
        return asyncio.get_running_loop().time() - attempt.armed_at

    async def _let_go(self, attempt: Attempt) -> None:
        """End the lease but not the claim: a push of the same content may go on at once, other content may not."""
        push = attempt.push
        await self._register.arm(
            push.repository, push.tag, attempt.content, token=attempt.token, lease_ms=0, draft=push.draft, closing=None
        )

    async def _rejected(self, attempt: Attempt, answer: Answer, sent: int) -> Answer:
        """The upstream said no, and it says so before it touches the tag (H63).

        That tells nothing of what was ``sent`` before, in this push or by the lost owner of a claim that it took over:
        it could still arrive, so the claim stays.
        """
        if sent or attempt.resumed is not None:
            await self._let_go(attempt)
            return answer
        event = replace(
            attempt.push.draft,
            outcome=Outcome.FAILED,
            reason=f"the upstream answered {answer.status}: {first_message(answer)}",
        )
        quiet = answer.status in {401, 403}
        told = None if quiet else record.timed(event, attempt.push.caller)
        await self._register.release(attempt.push.repository, attempt.push.tag, token=attempt.token, event=told)
        return answer

    async def _commit(self, attempt: Attempt) -> Answer:
        reach(Failpoint.PRE_COMMIT)
        push, held, verdict = attempt.push, attempt.over_digest, attempt.verdict
        event = replace(
            push.draft,
            outcome=Outcome.OVERWRITTEN if held else Outcome.CREATED,
            previous_digest=held,
            reason=verdict.reason if verdict else "finished what an interrupted push of the same content began",
            shadow=verdict.shadow if verdict else False,
        )
        timed = self._platforms.shown(record.timed(event, push.caller), push.manifest)
        content = replace(attempt.content, platforms=timed.platforms)
        reply = await insist(
            lambda: self._register.commit(
                push.repository, push.tag, content, token=attempt.token, event=timed, first=not held
            )
        )
        if reply.step is not Step.COMMITTED:
            raise Retry
        reach(Failpoint.POST_COMMIT)
        return push.created()
