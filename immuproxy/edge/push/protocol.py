"""A push to a protected tag: evaluate -> claim -> probe -> arm -> one PUT -> commit -> answer, and a look behind it.

The upstream has no compare-and-set, so the ledger decides who may set the tag and the upstream only stores content.
What a tag's record is, which script of the register changes it, and what the client hears of that, is the table
`TRANSITIONS`.  Below it stand the steps, in the order in which a push takes them.

Nothing here trusts what it learnt before the claim; every branch that does not know answers 503 and leaves a state that
anybody can finish (`immuproxy.edge.recovery`, `immuproxy.drift`).  Until the PUT nothing is sent but what a committed
tag holds already, so whatever goes wrong gives the claim back; after it the outcome may stay unknown, and then the
claim stays.  Why that is enough stands in docs/guarantees.md.  Hazards H13-H22, H53-H56, H61-H77.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Flag, auto

from immuproxy.edge import answers, record, second_look
from immuproxy.edge.adoptions import Adoptions
from immuproxy.edge.answers import Answer
from immuproxy.edge.closure import check_listed
from immuproxy.edge.failpoints import Failpoint, reach
from immuproxy.edge.push.attempt import Attempt, ClaimWait, Limits, Retry, renewed
from immuproxy.edge.push.blob_check import BlobChecks
from immuproxy.edge.push.carrier import Carrier
from immuproxy.edge.push.claim_cleanup import ClaimCleanup
from immuproxy.edge.push.evaluate import Evaluator
from immuproxy.edge.push.late_children import LateChildren, spelled
from immuproxy.edge.push.model import ManifestStore, Push
from immuproxy.edge.push.platforms import Platforms
from immuproxy.edge.push.retry import insist, once_more
from immuproxy.edge.recovery import Recovery
from immuproxy.edge.refusals import Refusals, first_message
from immuproxy.edge.second_look import SecondLooks
from immuproxy.edge.upstream import Found, OutcomeUnknownError, Upstream, UpstreamUnavailableError
from immuproxy.ledger.content import Content
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.model import ClaimReply, Event, Outcome, Reply, State, Step, TagRecord
from immuproxy.ledger.register import Register
from immuproxy.oci import errors
from immuproxy.oci.errors import OciError
from immuproxy.rules.model import Decision, Verdict
from immuproxy.store.redis import LedgerUnavailableError


class TagState(Flag):
    """What a tag's record is to a push: its claim where it has one, else what it holds."""

    ABSENT = auto()
    CLAIMED = auto()
    ARMED = auto()
    COMMITTED = auto()
    DELETED = auto()


ABSENT, CLAIMED, ARMED, COMMITTED, DELETED = TagState
ANY = ABSENT | CLAIMED | ARMED | COMMITTED | DELETED

STATES = {
    ABSENT: "The ledger knows of nothing; what the upstream shows under the tag predates it and is adopted (H71).",
    CLAIMED: "Somebody wants the tag for one digest and has sent nothing; after the lease anybody may take over (H61).",
    ARMED: "A PUT of that digest may reach the upstream; other content waits until it can land no more (H62).",
    COMMITTED: "The tag holds a digest, and readers get that whatever the upstream shows (H13, H28).",
    DELETED: "A delete was allowed and the name stays taken: a push is judged against the tombstone.",
}
"""A claim may stand beside what is COMMITTED, an overwrite, or DELETED, a new use of the name; until the commit readers
get what there was.
"""


@dataclass(frozen=True, slots=True)
class Transition:
    """One row: a step of the register, taken in one of the states ``before``, where ``when`` is so.

    ``reply``: the status that the script returns.  ``after``: None where the record stays as it was; several where a
    claim goes and leaves what the tag held.  ``hears``: what the client is told, or what happens before that.
    """

    before: TagState
    step: str
    reply: Step
    after: TagState | None
    when: str
    hears: str

    @property
    def script(self) -> str:
        """The file in ``immuproxy/ledger/scripts`` that takes the step, whole or not at all."""
        return f"{self.step}.lua"


# fmt: off
TRANSITIONS = (
    # before, step, reply, after,
    #     when, and what the client hears
    Transition(ABSENT | COMMITTED | DELETED, "claim", Step.CLAIMED, CLAIMED,
        "nothing is held, or the verdict names this generation of this digest (H102)", "nothing yet: probe, arm"),
    Transition(CLAIMED, "claim", Step.CLAIMED, CLAIMED,
        "the lease has passed (H64), or the claim is its own: a reply was lost (H65)", "nothing yet: probe, arm"),
    Transition(ARMED, "claim", Step.RESUMED, ARMED,
        "of the same digest, and the lease has passed or the claim is its own (H64)", "nothing yet: arm"),
    Transition(ARMED, "claim", Step.STALE, None,
        "of another digest, and the lease has passed (H62)", "nothing yet where adopt settles it; else 503"),
    Transition(ARMED, "claim", Step.CLAIMED, CLAIMED,
        "of another digest, seen not to have arrived, and the quarantine is over (H62)", "nothing yet: probe, arm"),
    Transition(CLAIMED | ARMED | COMMITTED, "claim", Step.BUSY, None,
        "its owner has its lease, or a heal may still land (H74, H121)", "nothing yet: claim again; 503 after a lease"),
    Transition(ANY, "claim", Step.DELETING, None,
        "a delete of something that it needs is under way (H34)", "nothing yet: claim again; 503 after a lease"),
    Transition(CLAIMED | ARMED | COMMITTED, "claim", Step.COMMITTED, None,
        "the verdict does not name what is held (H13)", "201 unchanged (H14), 409, or claim by the new verdict"),
    Transition(CLAIMED | ARMED | DELETED, "claim", Step.DELETED, None,
        "the verdict does not name the tombstone", "409, or claim by the new verdict"),

    Transition(CLAIMED | ARMED, "arm", Step.ARMED, ARMED,
        "the claim is its own; armed again, its lease begins anew or ends", "nothing yet: one PUT (H63)"),
    Transition(ANY, "arm", Step.LOST, None,
        "the claim is another's, or gone", "nothing yet: claim again; after a PUT as commit says, or 503"),

    Transition(ARMED, "commit", Step.COMMITTED, COMMITTED,
        "the claim is its own, of this digest (H67)", "201"),
    Transition(CLAIMED | ARMED | COMMITTED | DELETED, "commit", Step.COMMITTED, None,
        "others have finished this very push (H64), or a reply was lost (H65)", "201"),
    Transition(CLAIMED | ARMED | COMMITTED, "commit", Step.CONFLICT, None,
        "the tag holds something by another push", "nothing yet: claim again"),
    Transition(ABSENT | CLAIMED | ARMED | DELETED, "commit", Step.LOST, None,
        "the tag holds nothing, and the claim is another's, or gone", "nothing yet: claim again; or 503"),

    Transition(CLAIMED | ARMED, "release", Step.RELEASED, ABSENT | COMMITTED | DELETED,
        "nothing was sent, or the upstream surely did not take it (H63)", "why: 400, 409, 503, or the upstream's no"),
    Transition(ANY, "release", Step.LOST, None,
        "the claim is another's, or gone", "the same"),

    Transition(CLAIMED | ARMED, "give_back", Step.RELEASED, ABSENT | COMMITTED | DELETED,
        "touch with Redis was lost, and nothing was sent (H65)", "503 before that"),
    Transition(ARMED, "give_back", Step.LET_GO, None,
        "touch with Redis was lost, and a PUT may have been sent: the lease ends (H65)", "503 before that"),
    Transition(ANY, "give_back", Step.LOST, None,
        "touch with Redis was lost, and nothing is its own", "503 before that"),

    Transition(ABSENT | CLAIMED | DELETED, "adopt", Step.COMMITTED, COMMITTED,
        "the upstream shows a digest, and the name is free (H71)", "nothing yet: claim again"),
    Transition(ARMED, "adopt", Step.COMMITTED, COMMITTED,
        "its content has arrived; or other content has, and its owner is gone (H64)", "nothing yet: claim again"),
    Transition(CLAIMED | ARMED | COMMITTED, "adopt", Step.COMMITTED, None,
        "the tag holds something, and no overwrite has arrived whose owner is gone", "nothing yet: claim again"),
    Transition(ARMED, "adopt", Step.CHANGED, None,
        "it has its owner, or is not the claim that was seen (H125)", "nothing yet: claim again; or 503"),
    Transition(ABSENT | CLAIMED | ARMED | DELETED, "adopt", Step.DELETING, None,
        "a delete of what the upstream shows is under way (H34)", "503"),
    Transition(ABSENT | CLAIMED | ARMED | DELETED, "adopt", Step.LATE, None,
        "what shows was sent before the tag was deleted or overwritten (H110)", "nothing yet: arm; or 503"),
    Transition(CLAIMED | DELETED, "adopt", Step.DELETED, None,
        "the name stays taken: what shows came by another way", "nothing yet: claim again"),
)
# fmt: on
"""All that the register does to a tag for a guarded push; held to the scripts, the model and the page of guarantees."""


class Guard:
    """Carries pushes of protected tags; safe with any number of proxies on one ledger."""

    def __init__(
        self,
        *,
        register: Register,
        epoch: Epoch,
        upstream: Upstream,
        manifest_store: ManifestStore,
        late_children: LateChildren,
        carrier: Carrier,
        blob_checks: BlobChecks,
        evaluator: Evaluator,
        recovery: Recovery,
        refusals: Refusals,
        cleanup: ClaimCleanup,
        limits: Limits,
        platforms: Platforms,
        adoptions: Adoptions,
        drifted: Callable[[TagRecord, str], None],
    ) -> None:
        """All parts are shared with the other ways of a request; ``drifted`` is told what the upstream shows instead of
        what the tag holds, and must not wait.
        """
        self._register = register
        self._epoch = epoch
        self._upstream = upstream
        self._manifest_store = manifest_store
        self._late_children = late_children
        self._carrier = carrier
        self._blob_checks = blob_checks
        self._evaluator = evaluator
        self._recovery = recovery
        self._refusals = refusals
        self._cleanup = cleanup
        self._limits = limits
        self._platforms = platforms
        self._adoptions = adoptions
        self._second_looks = SecondLooks(second_look.BEHIND_PUSHES)
        self._drifted = drifted

    async def push(self, push: Push) -> Answer:
        """Carry one push to its end.

        Run it in a task of its own that outlives the client (H47).  Raises `immuproxy.oci.errors.OciError` (503 when
        nothing can be decided now), `UpstreamUnavailableError` and `LedgerUnavailableError`.
        """
        refused = await self.refused([push])
        if refused is not None:
            return refused
        content = await self.content(push)
        while True:
            attempt = Attempt(push, content, record.new_token())
            try:
                with self._cleanup.owed(attempt):
                    answer = await self.acquire(attempt)
                    return await self._carry(attempt) if answer is None else answer
            except Retry:
                push = renewed(push)

    async def _carry(self, attempt: Attempt) -> Answer:
        """From the claim to the answer."""
        await self.arm(attempt)
        return await self.send(attempt)

    async def ended(self) -> None:
        """Before the ledger's connection closes."""
        await self._adoptions.ended()
        await self._second_looks.ended()
        await self._blob_checks.ended()
        await self._cleanup.ended()

    # --- evaluate: by what the tag holds, before anything dear is learnt

    async def refused(self, pushes: Sequence[Push]) -> Answer | None:
        """The first refusal that does not depend on what an index reaches, which is dear to learn (H85)."""
        if not pushes[0].manifest.children:
            return None
        check_listed(pushes[0].manifest)
        for push in pushes:
            refused = await self._refused_by_held(push)
            if refused is not None:
                return refused
        return None

    async def _refused_by_held(self, push: Push) -> Answer | None:
        """The refusal by what the tag holds now, where nobody is about to change that; None where it has to be claimed
        to be decided, or has just changed.
        """
        found = await self._register.read(push.repository, push.tag)
        if found.claim or found.committed is None or found.committed.digest == push.manifest.digest:
            return None
        verdict = await self._evaluator.push(push, found, now_ms=await self._register.clock.looked())
        return await self._refusals.push(push, verdict, found) if verdict.outcome is Decision.REFUSE else None

    async def content(self, push: Push) -> Content:
        """What the tag will need; every digest of it is pinned with the claim."""
        return await self._manifest_store.content(push.repository, push.manifest, push.caller, push.take)

    # --- claim

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
                    await self._attach(attempt, reply)
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
                    self._evaluator.require_in_force(attempt.push)
                    attempt.forget_verdict()
                    if waiting.is_long:
                        await self._help(attempt.push, reply.record)

    async def _claim(self, attempt: Attempt) -> ClaimReply:
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
                spelled=spelled(push.manifest, attempt.content),
                adoption=self._adoptions.instead_of_probe(push.repository),
            )
        )

    # --- COMMITTED, DELETED: the tag holds something already

    async def _held(self, attempt: Attempt, reply: ClaimReply) -> Answer | None:
        """Unchanged, refused, or on as an overwrite of exactly this generation; judged again where that has gone."""
        push, found = attempt.push, reply.record
        verdict = await self._evaluate(push, reply)
        match verdict.outcome:
            case Decision.UNCHANGED if found.committed:
                await self._attach(attempt, reply)
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

    # --- BUSY, STALE: somebody else's claim

    async def _help(self, push: Push, found: TagRecord) -> None:
        """Somebody's armed claim takes long: where its content has arrived, finish it as a reader would (H64)."""
        if found.claim and found.claim.state is State.ARMED:
            with suppress(UpstreamUnavailableError):
                await self._recovery.settle(found, push.caller, push.rule)

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

    # --- CLAIMED: probe, and evaluate by what is in force now

    async def _claimed(self, attempt: Attempt, reply: ClaimReply) -> Answer | None:
        """Nothing was sent yet: whatever goes wrong up to the arming gives the claim back."""
        push = attempt.push
        try:
            _require_generation(attempt, reply)
            await self._attach(attempt, reply)
            if attempt.verdict is None:
                await self._require_unknown(attempt, reply)
            # Whatever let it come here may have ended since (H103).
            attempt.verdict = await self._evaluate(push, reply)
            lacking = await self._lacking(attempt, reply.deletes)
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

    async def _require_unknown(self, attempt: Attempt, reply: ClaimReply) -> None:
        """Whether the tag is not there: the ledger has no record of it, and does the upstream show something?"""
        if not reply.adopted:
            await self._probe(attempt)
        recovering = self._epoch.recovering()
        if recovering:
            raise errors.unavailable(
                "the ledger was lost or restored; until no earlier push can land any more, new tags have to wait",
                retry_after=max(1, round(recovering)),
            )

    async def _probe(self, attempt: Attempt) -> None:
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
        if isinstance(found, Answer) and found.status != 404:
            raise errors.unavailable("the upstream does not let this client see the tag, so it cannot be protected")
        self._adoptions.begin(push.repository, push.caller)

    async def _lacking(self, attempt: Attempt, deletes: int) -> OciError | None:
        """Why the content could not be pulled: a registry takes it whose descriptor cache outlived a blob (H25, H36);
        or could not be kept from being deleted (H81).
        """
        if attempt.verdict is None or attempt.verdict.outcome is Decision.REFUSE:
            return None
        push, blobs = attempt.push, attempt.content.blobs
        lacking = await self._blob_checks.lacking(push.repository, blobs, push.caller, deletes=deletes)
        if lacking:
            return errors.blob_unknown(lacking)
        unresolved = [blob for blob in blobs if blob in attempt.content.unresolved]
        return errors.blob_unresolved(unresolved[0]) if unresolved else None

    async def _evaluate(self, push: Push, reply: ClaimReply) -> Verdict:
        """By the claim's reply: an exception that was granted since then is one that came too late."""
        now = await self._register.clock.time()
        return await self._evaluator.push(push, reply.record, now_ms=now, excepted=reply.excepted)

    async def _attach(self, attempt: Attempt, reply: ClaimReply) -> None:
        await self._late_children.bring_guarded(attempt.push, attempt.content, reply.unattached)

    async def _keep(self, attempt: Attempt) -> None:
        await self._manifest_store.keep(attempt.push.repository, attempt.content, attempt.push.caller)

    async def _without(self, attempt: Attempt, lacking: OciError) -> Answer:
        event = replace(attempt.push.draft, reason=lacking.message)
        await self.release(attempt, record.timed(event, attempt.push.caller))
        return answers.error(lacking)

    async def _refused(self, push: Push, verdict: Verdict, found: TagRecord) -> Answer:
        """The refusal of a push that had its claim; raises `Retry` where the tag holds something else by now."""
        answer = await self._refusals.push(push, verdict, found)
        if answer is None:
            raise Retry
        return answer

    async def evaluate_again(self, attempt: Attempt) -> Answer | None:
        """Once more where others were waited for since the claim, which is ours; the answer of a refusal (H103)."""
        push, now = attempt.push, await self._register.clock.looked()
        found = await self._register.read(push.repository, push.tag)
        attempt.verdict = await self._evaluator.push(push, found, now_ms=now)
        if attempt.verdict.outcome is Decision.REFUSE:
            return await self._refused(push, attempt.verdict, found)
        return None

    async def release(self, attempt: Attempt, event: Event | None = None) -> None:
        """Give the claim back; only where nothing was sent for it by anybody."""
        await self._register.release(attempt.push.repository, attempt.push.tag, token=attempt.token, event=event)

    # --- arm

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
        if asyncio.get_running_loop().time() - attempt.armed_at > self._limits.put:
            await self._arm(attempt, None)

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

    # --- one PUT

    async def send(self, attempt: Attempt) -> Answer:
        """Send what is armed, and commit it; what a lost owner has sent may have arrived already.

        From the PUT on the outcome may stay unknown, and then the claim stays too (H63).
        """
        if attempt.resumed is not None and await self._is_stored(attempt.push):
            return await self._commit(attempt)
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
            if answer is not None and answer.digest == push.manifest.digest:
                return await self._commit(attempt, looks=True)
            if await self._is_stored(push):
                return await self._commit(attempt)
        raise errors.unavailable("the upstream did not store the push; try again, the tag is kept for this content")

    def _check_lease(self, attempt: Attempt) -> float:
        """Until when the PUT may be sent, so that it arrives within the lease.

        This process may have stood still since it armed the claim (H62).
        """
        until = self._limits.until(attempt.armed_at)
        if asyncio.get_running_loop().time() > until:
            raise errors.unavailable("the proxy stood still for too long in the middle of this push; try again")
        return until

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
        await self.release(attempt, None if quiet else record.timed(event, attempt.push.caller))
        return answer

    async def _overtaken(self, attempt: Attempt) -> Answer:
        """Others have finished this push or given it up; where the tag holds nothing any more, only they know which."""
        try:
            return await self._commit(attempt)
        except Retry:
            found = await self._register.read(attempt.push.repository, attempt.push.tag)
            if found.committed:
                raise
        raise errors.unavailable("the tag was deleted, or this push given up, before its outcome was known; try again")

    async def _let_go(self, attempt: Attempt) -> None:
        """End the lease but not the claim: a push of the same content may go on at once, other content may not."""
        push = attempt.push
        await self._register.arm(
            push.repository, push.tag, attempt.content, token=attempt.token, lease_ms=0, draft=push.draft, closing=None
        )

    # --- verify

    async def _is_stored(self, push: Push) -> bool:
        """Whether the upstream gives out the very bytes under the tag (H25): asked where nobody knows what became of a
        PUT, and where its answer does not name the digest.

        A registry that was killed may have left an empty link, which only another PUT mends: it counts as not stored
        (H16).
        """
        try:
            found = await self._upstream.probe(push.repository, push.tag, push.caller)
        except UpstreamUnavailableError:
            return False
        return isinstance(found, Found) and found.digest == push.manifest.digest

    # --- commit, and the answer

    async def _commit(self, attempt: Attempt, *, looks: bool = False) -> Answer:
        """``looks``: nobody has looked yet whether the upstream shows what it said that it took."""
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
        if looks:
            self._second_looks.after((push.repository, push.tag), lambda: self._look(push))
        return push.created()

    async def _look(self, push: Push) -> None:
        """Behind the answer: another PUT that came late, or a crash of the registry, may have changed its link."""
        found = await self._upstream.probe(push.repository, push.tag, push.caller)
        shown = found.digest if isinstance(found, Found) else ""
        if shown == push.manifest.digest:
            return
        now = await self._register.read(push.repository, push.tag)
        if now.committed and now.committed.digest == push.manifest.digest and now.claim is None:
            self._drifted(now, shown)


def _require_generation(attempt: Attempt, reply: Reply) -> None:
    """A verdict on another generation, or digest, than the one now claimed is void (H102)."""
    held = reply.record.committed.digest if reply.record.committed else ""
    if (attempt.over_generation, attempt.over_digest) != (reply.record.generation, held):
        raise Retry
