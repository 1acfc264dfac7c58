"""A push to a protected tag: claim -> probe -> arm -> one PUT -> verify -> commit.

The upstream has no compare-and-set, so the ledger decides who may set the tag and the upstream only stores content.
Nothing here trusts what it learnt before the claim; every branch that does not know answers 503 and leaves a state that
anybody can finish (`immuproxy.drift`).  Hazards H13-H22, H53-H56, H61-H77.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.ids import new_event_id
from immuproxy.ledger.model import Event, Outcome, Reply, State, Step, TagRecord
from immuproxy.ledger.redis import LedgerUnavailableError
from immuproxy.ledger.register import Content, Register
from immuproxy.oci import errors
from immuproxy.proxy import answers, record
from immuproxy.proxy.amends import Amends
from immuproxy.proxy.answers import Answer
from immuproxy.proxy.attempt import FIRST_WAIT, Attempt, Limits, Retry, Waiting
from immuproxy.proxy.failpoints import Failpoint, reach
from immuproxy.proxy.judge import Judge
from immuproxy.proxy.looks import Looks
from immuproxy.proxy.push import Library, Push, blobs_of
from immuproxy.proxy.recovery import Recovery
from immuproxy.proxy.refusals import Refusals, first_message
from immuproxy.proxy.upstream import Found, OutcomeUnknownError, Upstream, UpstreamUnavailableError
from immuproxy.rules.model import Decision

AT_ONCE = 0.2
COMMIT_TRIES = 3
CREATED = 201


class Guard:
    """Carries pushes of protected tags; safe with any number of proxies on one ledger."""

    def __init__(
        self,
        *,
        register: Register,
        epoch: Epoch,
        upstream: Upstream,
        library: Library,
        looks: Looks,
        judge: Judge,
        recovery: Recovery,
        refusals: Refusals,
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
        self._limits = limits
        self._amends = Amends(register, lease=limits.lease)

    async def push(self, push: Push) -> Answer:
        """Carry one push to its end.

        Run it in a task of its own that outlives the client (H47).  Raises `immuproxy.oci.errors.OciError` (503 when
        nothing can be decided now), `UpstreamUnavailableError` and `LedgerUnavailableError`.
        """
        content = await self._library.content(push.repository, push.manifest, push.caller)
        while True:
            attempt = Attempt(push, content, record.new_token())
            try:
                with self._owed(attempt):
                    answer = await self._acquire(attempt)
                    return await self._carry(attempt) if answer is None else answer
            except Retry:
                push = _renewed(push)

    async def push_all(self, pushes: Sequence[Push]) -> Answer:
        """Carry pushes of one manifest to several tags: all are claimed before the first is sent, or none is (H11).

        ``pushes`` in the order of their tags, so that two such pushes cannot wait for each other.  Returns the first
        answer that is no success.  Raises like `push`.
        """
        first = pushes[0]
        content = await self._library.content(first.repository, first.manifest, first.caller)
        while True:
            attempts: list[Attempt] = []
            try:
                return await self._all_or_none(pushes, content, attempts)
            except Retry:
                pushes = [_renewed(push) for push in pushes]
            finally:
                await self._release_all(attempts)

    async def _all_or_none(self, pushes: Sequence[Push], content: Content, attempts: list[Attempt]) -> Answer:
        for push in pushes:
            attempt = Attempt(push, content, record.new_token())
            with self._owed(attempt):
                answer = await self._acquire(attempt)
            if answer is None:
                attempts.append(attempt)
            elif answer.status != CREATED:
                return answer
        while attempts:
            attempt = attempts.pop(0)
            with self._owed(attempt):
                answer = await self._carry(attempt)
            if answer.status != CREATED:
                return answer
        return self._created(pushes[0])

    async def _release_all(self, attempts: list[Attempt]) -> None:
        """Give back what was only claimed; what was taken over from somebody else stays armed."""
        while attempts:
            attempt = attempts.pop()
            if attempt.resumed is not None:
                self._amends.owe(attempt)
                continue
            with suppress(LedgerUnavailableError), self._owed(attempt):
                await self._release(attempt, None)

    @contextmanager
    def _owed(self, attempt: Attempt) -> Iterator[None]:
        """Where touch with Redis is lost in here, whatever the attempt owns by then is given back later."""
        try:
            yield
        except LedgerUnavailableError:
            self._amends.owe(attempt)
            raise

    async def ended(self) -> None:
        """Before the ledger's connection closes."""
        await self._looks.ended()
        await self._amends.ended()

    async def _acquire(self, attempt: Attempt) -> Answer | None:
        """Come to own the tag's claim, with a verdict that lets the push go on; or the answer that ends it."""
        waiting = Waiting(self._limits.lease)
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
                    return None
                case Step.COMMITTED | Step.DELETED:
                    answer = await self._held(attempt, reply)
                    if answer is not None:
                        return answer
                case Step.STALE:
                    await self._stale(attempt, reply)
                case _:
                    await waiting.once(attempt.push)
                    if waiting.is_long:
                        await self._help(attempt.push, reply.record)

    async def _carry(self, attempt: Attempt) -> Answer:
        """From the claim to the commit."""
        if attempt.resumed is not None:
            return await self._resume(attempt, attempt.resumed)
        await self._arm(attempt, None)
        return await self._send(attempt)

    # --- claim

    async def _claim(self, attempt: Attempt) -> Reply:
        push, resolved = attempt.push, attempt.resolved
        return await _once_more(
            lambda: self._register.claim(
                push.repository,
                push.tag,
                attempt.content,
                token=attempt.token,
                lease_ms=_ms(self._limits.lease),
                over_generation=attempt.over_generation,
                resolved_token=resolved.token if resolved else "",
                quarantine_ms=_ms(self._limits.quarantine),
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
        """Unchanged, refused, or on as an overwrite of exactly this generation."""
        push, found = attempt.push, reply.record
        verdict = await self._judge.push(push, found, now_ms=reply.now)
        match verdict.outcome:
            case Decision.UNCHANGED:
                return await self._unchanged(push)
            case Decision.REFUSE:
                return await self._refusals.push(push, verdict, found)
            case _:
                attempt.over_generation = found.generation
                attempt.over_digest = found.committed.digest if found.committed else ""
                attempt.verdict = verdict
                return None

    async def _unchanged(self, push: Push) -> Answer:
        """The same digest again: no upstream write, because on many registries even that breaks readers (H14)."""
        event = replace(
            push.draft,
            outcome=Outcome.UNCHANGED,
            previous_digest=push.manifest.digest,
            reason="the tag already holds this digest",
        )
        present = await self._upstream.probe(push.repository, push.manifest.digest, push.caller)
        if not isinstance(present, Found):
            return await self._restored(push, event)
        await self._register.record(self._timed(event, push))
        return self._created(push)

    async def _restored(self, push: Push, event: Event) -> Answer:
        """The upstream has lost what the tag holds, and the client brings it back."""
        answer = await self._upstream.put_manifest(push.repository, push.tag, push.manifest.body, push.caller)
        if answer.status >= 300:
            refused = replace(event, outcome=Outcome.FAILED, reason=f"the upstream answered {answer.status}")
            await self._register.record(self._timed(refused, push))
            return answer
        if not await self._verified(push):
            raise errors.unavailable("the upstream has lost this manifest and did not take it back; try again")
        again = replace(event, reason="the tag already holds this digest; the upstream had lost it and has it again")
        await self._register.record(self._timed(again, push))
        return self._created(push)

    # --- the claim is ours

    async def _claimed(self, attempt: Attempt, reply: Reply) -> Answer | None:
        """Nothing was sent yet: whatever goes wrong up to the arming gives the claim back."""
        push = attempt.push
        try:
            _require_generation(attempt, reply)
            if attempt.verdict is None:
                await self._look(attempt)
                attempt.verdict = await self._judge.push(push, reply.record, now_ms=reply.now)
            lacking = await self._lacking(attempt)
            reach(Failpoint.POST_PROBE)
        except BaseException:
            await self._release(attempt, None)
            raise
        if attempt.verdict.outcome is Decision.REFUSE:
            await self._release(attempt, None)
            return await self._refusals.push(push, attempt.verdict, reply.record)
        return await self._without(attempt, lacking) if lacking else None

    async def _lacking(self, attempt: Attempt) -> str:
        if attempt.verdict is None or attempt.verdict.outcome is Decision.REFUSE:
            return ""
        return await self._looks.lacking(attempt.push.repository, blobs_of(attempt.content), attempt.push.caller)

    async def _without(self, attempt: Attempt, lacking: str) -> Answer:
        """Refuse what could not be pulled: a registry takes it whose descriptor cache outlived the blob (H25, H36)."""
        reason = f"the upstream gives out no byte of {lacking}, which the manifest needs"
        await self._release(attempt, self._timed(replace(attempt.push.draft, reason=reason), attempt.push))
        return answers.error(errors.blob_unknown(lacking))

    async def _look(self, attempt: Attempt) -> None:
        """Does the upstream already have the tag?  Then it predates us, or came by another way: adopt it (H71)."""
        push = attempt.push
        found = await self._upstream.probe(push.repository, push.tag, push.caller)
        if isinstance(found, Found):
            reply = await self._recovery.adopt(push.repository, push.tag, found, push.caller, push.rule)
            if reply.step is Step.DELETING:
                raise errors.unavailable("what the upstream shows under this tag is being deleted; try again")
            raise Retry
        recovering = self._epoch.recovering()
        if recovering:
            raise errors.unavailable(
                "the ledger was lost or restored; until no earlier push can land any more, new tags have to wait",
                retry_after=max(1, round(recovering)),
            )
        if found.status != 404:
            raise errors.unavailable("the upstream does not let this client see the tag, so it cannot be protected")

    async def _arm(self, attempt: Attempt, closing: Event | None) -> None:
        push = attempt.push
        verdict = attempt.verdict
        intent = replace(push.draft, shadow=verdict.shadow if verdict else False)
        attempt.armed_at = asyncio.get_running_loop().time()
        reply = await _once_more(
            lambda: self._register.arm(
                push.repository,
                push.tag,
                attempt.content,
                token=attempt.token,
                lease_ms=_ms(self._limits.lease),
                draft=intent,
                closing=closing,
            )
        )
        if reply.step is Step.LOST:
            raise Retry
        reach(Failpoint.POST_ARM)

    async def _resume(self, attempt: Attempt, found: TagRecord) -> Answer:
        """An armed claim of this very digest whose owner is gone: finish what it began."""
        push = attempt.push
        closing = await self._recovery.closing(found, "the proxy stopped; a push of the same content took over")
        attempt.over_digest = found.committed.digest if found.committed else ""
        await self._arm(attempt, closing)
        if await self._verified(push):
            return await self._commit(attempt)
        return await self._send(attempt)

    async def _stale(self, attempt: Attempt, reply: Reply) -> None:
        """An armed claim of another digest whose owner is gone: what the upstream shows decides (H62)."""
        push, claim = attempt.push, reply.record.claim
        if claim is None or await self._recovery.settle(reply.record, push.caller, push.rule):
            return
        age = (reply.now - claim.armed) / 1000
        if age < self._limits.quarantine:
            raise errors.unavailable(
                "an earlier push of other content was cut off, and it could still arrive; "
                f"pushing that content again ({claim.digest}) settles it at once",
                retry_after=max(1, round(self._limits.quarantine - age)),
            )
        attempt.resolved = claim
        attempt.closing = await self._recovery.closing(reply.record, "the push never reached the upstream")

    # --- send, verify, commit

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
        """One PUT; after an unknown outcome and a look that shows nothing, one more of the same bytes."""
        push = attempt.push
        for sent in range(2):
            self._check_lease(attempt)
            reach(Failpoint.PUT_SENT)
            attempt.sent = True
            try:
                answer = await self._upstream.put_manifest(push.repository, push.tag, push.manifest.body, push.caller)
            except OutcomeUnknownError:
                answer = None
            reach(Failpoint.PUT_APPLIED)
            if answer is not None and answer.status >= 300:
                return await self._rejected(attempt, answer, sent)
            if await self._verified(push):
                return await self._commit(attempt)
        raise errors.unavailable("the upstream did not store the push; try again, the tag is kept for this content")

    def _check_lease(self, attempt: Attempt) -> None:
        """Send nothing that could arrive after the lease: this process may have stood still since it armed (H62)."""
        age = asyncio.get_running_loop().time() - attempt.armed_at
        if age > self._limits.lease - self._limits.put:
            raise errors.unavailable("the proxy stood still for too long in the middle of this push; try again")

    async def _let_go(self, attempt: Attempt) -> None:
        """End the lease but not the claim: a push of the same content may go on at once, other content may not."""
        push = attempt.push
        await self._register.arm(
            push.repository, push.tag, attempt.content, token=attempt.token, lease_ms=0, draft=push.draft, closing=None
        )

    async def _rejected(self, attempt: Attempt, answer: Answer, sent: int) -> Answer:
        """The upstream said no, and it says so before it touches the tag (H63).

        That tells nothing of what was ``sent`` before in this push: it could still arrive, so the claim stays.
        """
        if sent:
            await self._let_go(attempt)
            return answer
        event = replace(
            attempt.push.draft,
            outcome=Outcome.FAILED,
            reason=f"the upstream answered {answer.status}: {first_message(answer)}",
        )
        quiet = answer.status in {401, 403}
        await self._release(attempt, None if quiet else self._timed(event, attempt.push))
        return answer

    async def _verified(self, push: Push) -> bool:
        """Whether the upstream gives out the very bytes under the tag (H25).

        A registry that was killed may have left an empty link, which only another PUT mends: it counts as not stored
        (H16).
        """
        try:
            found = await self._upstream.probe(push.repository, push.tag, push.caller)
        except UpstreamUnavailableError:
            return False
        return isinstance(found, Found) and found.digest == push.manifest.digest

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
        timed = self._timed(event, push)
        reply = await _insist(
            lambda: self._register.commit(
                push.repository, push.tag, attempt.content, token=attempt.token, event=timed, first=not held
            )
        )
        if reply.step is not Step.COMMITTED:
            raise Retry
        reach(Failpoint.POST_COMMIT)
        return self._created(push)

    # --- small things

    async def _release(self, attempt: Attempt, event: Event | None) -> None:
        await self._register.release(attempt.push.repository, attempt.push.tag, token=attempt.token, event=event)

    def _created(self, push: Push) -> Answer:
        return answers.created(push.repository, push.manifest.digest, push.caller.edge_origin)

    def _timed(self, event: Event, push: Push) -> Event:
        return record.timed(event, push.caller)


def _require_generation(attempt: Attempt, reply: Reply) -> None:
    """A verdict on another generation than the one now claimed is void."""
    if attempt.over_generation != reply.record.generation:
        raise Retry


def _renewed(push: Push) -> Push:
    """The push as it starts again: whoever took its claim may have written its event, and no event is written twice."""
    return replace(push, draft=replace(push.draft, id=new_event_id()))


async def _once_more(step: Callable[[], Awaitable[Reply]]) -> Reply:
    """A step that may be repeated, once more where the connection broke at once: it may have been taken, and its claim
    would stand until the lease has passed (H65).  A Redis that does not answer is not asked again.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    try:
        return await step()
    except LedgerUnavailableError:
        if clock() - began > AT_ONCE:
            raise
    await asyncio.sleep(FIRST_WAIT)
    return await step()


async def _insist(step: Callable[[], Awaitable[Reply]]) -> Reply:
    """A step that may be repeated, a few times: its reply may have been lost on the way (H65)."""
    for _ in range(COMMIT_TRIES - 1):
        try:
            return await step()
        except LedgerUnavailableError:
            await asyncio.sleep(FIRST_WAIT)
    return await step()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
