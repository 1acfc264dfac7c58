"""The first half of a guarded push: to own the claim of the tag, or to know why not (H13, H14, H25, H62, H64, H71).

Nothing is sent from here but what a committed tag holds already, so whatever goes wrong gives the claim back.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from immuproxy.edge import answers, record
from immuproxy.edge.answers import Answer
from immuproxy.edge.failpoints import Failpoint, reach
from immuproxy.edge.push.attempt import Attempt, ClaimWait, Limits, Retry
from immuproxy.edge.push.blob_check import BlobChecks
from immuproxy.edge.push.carrier import Carrier
from immuproxy.edge.push.evaluate import Evaluator
from immuproxy.edge.push.late_children import LateChildren
from immuproxy.edge.push.model import ManifestStore, Push
from immuproxy.edge.push.retry import once_more
from immuproxy.edge.recovery import Recovery
from immuproxy.edge.refusals import Refusals
from immuproxy.edge.upstream import Found, Upstream, UpstreamUnavailableError
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.model import Event, Outcome, Reply, State, Step, TagRecord
from immuproxy.ledger.register import Register
from immuproxy.oci import errors
from immuproxy.oci.errors import OciError
from immuproxy.rules.model import Decision, Verdict


class Claiming:
    """From the push to its claim, with a verdict that lets it go on."""

    def __init__(
        self,
        *,
        register: Register,
        epoch: Epoch,
        upstream: Upstream,
        library: ManifestStore,
        looks: BlobChecks,
        judge: Evaluator,
        recovery: Recovery,
        refusals: Refusals,
        late_children: LateChildren,
        carrier: Carrier,
        limits: Limits,
    ) -> None:
        """All parts are shared with the other ways of a request."""
        self._register = register
        self._epoch = epoch
        self._upstream = upstream
        self._library = library
        self._looks = looks
        self._judge = judge
        self._recovery = recovery
        self._refusals = refusals
        self._late_children = late_children
        self._carrier = carrier
        self._limits = limits

    async def acquire(self, attempt: Attempt) -> Answer | None:
        """Come to own the tag's claim, with a verdict that lets the push go on; or the answer that ends it."""
        waiting = ClaimWait(self._limits.lease)
        while True:
            reach(Failpoint.PRE_CLAIM)
            reply = await self._claim(attempt)
            attempt.resolved = None
            match reply.step:
                case Step.CLAIMED:
                    reach(Failpoint.POST_CLAIM)
                    return await self._claimed(attempt, reply)
                case Step.RESUMED:
                    attempt.resumed = reply.record
                    with suppress(UpstreamUnavailableError):
                        await self._keep(attempt)
                    return None
                case Step.COMMITTED | Step.DELETED:
                    answer = await self._held(attempt, reply)
                    if answer is not None:
                        return answer
                case Step.STALE:
                    await self._stale(attempt, reply)
                case _:
                    await waiting.once(attempt.push)
                    self._judge.require_in_force(attempt.push)
                    attempt.forget_verdict()
                    if waiting.is_long:
                        await self._help(attempt.push, reply.record)

    async def refused(self, push: Push) -> Answer | None:
        """The refusal by what the tag holds now, where nobody is about to change that; None where it has to be claimed
        to be decided, or has just changed.
        """
        found = await self._register.read(push.repository, push.tag)
        if found.claim or found.committed is None or found.committed.digest == push.manifest.digest:
            return None
        verdict = await self._judge.push(push, found, now_ms=await self._register.clock.looked())
        return await self._refusals.push(push, verdict, found) if verdict.outcome is Decision.REFUSE else None

    async def judge_again(self, attempt: Attempt) -> Answer | None:
        """Once more where others were waited for since the claim, which is ours; the answer of a refusal (H103)."""
        push, now = attempt.push, await self._register.clock.looked()
        found = await self._register.read(push.repository, push.tag)
        attempt.verdict = await self._judge.push(push, found, now_ms=now)
        if attempt.verdict.outcome is Decision.REFUSE:
            return await self._refused(push, attempt.verdict, found)
        return None

    async def _refused(self, push: Push, verdict: Verdict, found: TagRecord) -> Answer:
        """The refusal of a push that had its claim; raises `Retry` where the tag holds something else by now."""
        answer = await self._refusals.push(push, verdict, found)
        if answer is None:
            raise Retry
        return answer

    async def release(self, attempt: Attempt, event: Event | None = None) -> None:
        """Give the claim back; only where nothing was sent for it by anybody."""
        await self._register.release(attempt.push.repository, attempt.push.tag, token=attempt.token, event=event)

    # --- claim

    async def _claim(self, attempt: Attempt) -> Reply:
        push, resolved = attempt.push, attempt.resolved
        return await once_more(
            lambda: self._register.claim(
                push.repository,
                push.tag,
                attempt.content,
                token=attempt.token,
                lease_ms=self._limits.lease_ms,
                over_generation=attempt.over_generation,
                over_digest=attempt.over_digest,
                resolved_token=resolved.token if resolved else "",
                quarantine_ms=self._limits.quarantine_ms,
                closing=attempt.closing,
            )
        )

    async def _help(self, push: Push, found: TagRecord) -> None:
        """Somebody's armed claim takes long: where its content has arrived, finish it as a reader would (H64)."""
        if found.claim and found.claim.state is State.ARMED:
            with suppress(UpstreamUnavailableError):
                await self._recovery.settle(found, push.caller, push.rule)

    # --- the tag holds something already

    async def _held(self, attempt: Attempt, reply: Reply) -> Answer | None:
        """Unchanged, refused, or on as an overwrite of exactly this generation; judged again where that has gone."""
        push, found = attempt.push, reply.record
        verdict = await self._judge.push(push, found, now_ms=await self._register.clock.time())
        match verdict.outcome:
            case Decision.UNCHANGED if found.committed:
                return await self._unchanged(attempt, found)
            case Decision.REFUSE:
                answer = await self._refusals.push(push, verdict, found)
                attempt.forget_verdict()
                return answer
            case _:
                attempt.over_generation = found.generation
                attempt.over_digest = found.committed.digest if found.committed else ""
                attempt.verdict = verdict
                return None

    async def _unchanged(self, attempt: Attempt, found: TagRecord) -> Answer | None:
        """The same digest again: no upstream write, because on many registries even that breaks readers (H14).

        None where the tag was overwritten or deleted while its content was looked for: judged again (H117).
        """
        push = attempt.push
        event = replace(
            push.draft,
            outcome=Outcome.UNCHANGED,
            previous_digest=push.manifest.digest,
            platforms=push.draft.platforms or (found.committed.platforms if found.committed else ()),
            reason="the tag already holds this digest",
        )
        present = await self._upstream.probe(push.repository, push.manifest.digest, push.caller)
        if not isinstance(present, Found):
            return await self._restored(push, event)
        if await self._register.record_judged(record.timed(event, push.caller), found):
            return push.created()
        attempt.forget_verdict()
        return None

    async def _restored(self, push: Push, event: Event) -> Answer:
        """The upstream has lost what the tag holds, and the client brings it back (H92)."""
        again = replace(event, reason="the tag already holds this digest; the upstream had lost it and has it again")
        until = await self._carrier.intend_again(push, again)
        answer = await self._carrier.send(push, push.tag, again, until=until, looks=True)
        return push.created() if answer.status < 300 else answer

    # --- the claim is ours

    async def _claimed(self, attempt: Attempt, reply: Reply) -> Answer | None:
        """Nothing was sent yet: whatever goes wrong up to the arming gives the claim back."""
        push = attempt.push
        try:
            _require_generation(attempt, reply)
            if attempt.verdict is None:
                await self._look(attempt)
            # Whatever let it come here may have ended since (H103).
            attempt.verdict = await self._judge.push(push, reply.record, now_ms=await self._register.clock.time())
            lacking = await self._lacking(attempt)
            await self._late_children.find(push.repository, attempt.content.missing, push.caller)
            if not lacking and attempt.verdict.outcome is not Decision.REFUSE:
                await self._keep(attempt)
            reach(Failpoint.POST_PROBE)
        except BaseException:
            await self.release(attempt)
            raise
        if attempt.verdict.outcome is Decision.REFUSE:
            await self.release(attempt)
            return await self._refused(push, attempt.verdict, reply.record)
        return await self._without(attempt, lacking) if lacking else None

    async def _lacking(self, attempt: Attempt) -> OciError | None:
        """Why the content could not be pulled: a registry takes it whose descriptor cache outlived a blob (H25, H36);
        or could not be kept from being deleted (H81).
        """
        if attempt.verdict is None or attempt.verdict.outcome is Decision.REFUSE:
            return None
        push, blobs = attempt.push, attempt.content.blobs
        lacking = await self._looks.lacking(push.repository, blobs, push.caller)
        if lacking:
            return errors.blob_unknown(lacking)
        unresolved = [blob for blob in blobs if blob in attempt.content.unresolved]
        return errors.blob_unresolved(unresolved[0]) if unresolved else None

    async def _keep(self, attempt: Attempt) -> None:
        await self._library.keep(attempt.push.repository, attempt.content, attempt.push.caller)

    async def _without(self, attempt: Attempt, lacking: OciError) -> Answer:
        event = replace(attempt.push.draft, reason=lacking.message)
        await self.release(attempt, record.timed(event, attempt.push.caller))
        return answers.error(lacking)

    async def _look(self, attempt: Attempt) -> None:
        """Does the upstream already have the tag?  Then it predates us, or came by another way: adopt it (H71).

        What a push from before the tag's delete has brought since is nothing that the tag holds (H110).
        """
        push = attempt.push
        found = await self._upstream.probe(push.repository, push.tag, push.caller)
        if isinstance(found, Found):
            reply = await self._recovery.adopt(push.repository, push.tag, found, push.caller, push.rule)
            if reply.step is Step.DELETING:
                raise errors.unavailable("what the upstream shows under this tag is being deleted; try again")
            if reply.step is not Step.LATE:
                raise Retry
        recovering = self._epoch.recovering()
        if recovering:
            raise errors.unavailable(
                "the ledger was lost or restored; until no earlier push can land any more, new tags have to wait",
                retry_after=max(1, round(recovering)),
            )
        if isinstance(found, Answer) and found.status != 404:
            raise errors.unavailable("the upstream does not let this client see the tag, so it cannot be protected")

    async def _stale(self, attempt: Attempt, reply: Reply) -> None:
        """An armed claim of another digest whose owner is gone: what the upstream shows decides (H62)."""
        push, claim = attempt.push, reply.record.claim
        if claim is None or await self._recovery.settle_or_mend(reply.record, push.caller, push.rule):
            return
        age = (await self._register.ages(push.repository)).of(claim.armed)
        if self._limits.may_still_land(age):
            raise errors.unavailable(
                "an earlier push of other content was cut off, and it could still arrive; "
                f"pushing that content again ({claim.digest}) settles it at once",
                retry_after=max(1, round(self._limits.quarantine - age / 1000)),
            )
        attempt.resolved = claim
        attempt.closing = await self._recovery.given_up(reply.record, push.caller)


def _require_generation(attempt: Attempt, reply: Reply) -> None:
    """A verdict on another generation, or digest, than the one now claimed is void (H102)."""
    held = reply.record.committed.digest if reply.record.committed else ""
    if (attempt.over_generation, attempt.over_digest) != (reply.record.generation, held):
        raise Retry
