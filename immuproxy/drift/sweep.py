"""The sweep: finishes pushes and deletes whose proxy is gone, so that every one of them has its event, and compares
what the ledger holds with what the upstream shows.

Leaderless: every proxy sweeps, at jittered times, and each finishing step is one script that only the first gets
through. An intent is looked at when it is older than any living owner could still be (its lease).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from immuproxy.allow.exceptions import Exceptions
from immuproxy.audit.testimony import UnheardError, Witnesses
from immuproxy.drift.apart import apart
from immuproxy.drift.comparing import Comparison
from immuproxy.drift.healer import Healer
from immuproxy.drift.interrupted import Interrupted
from immuproxy.drift.interrupted_deletes import InterruptedDeletes
from immuproxy.drift.late import Late
from immuproxy.drift.polite_client import shown
from immuproxy.edge import record
from immuproxy.edge.caller import Caller
from immuproxy.edge.cases import Cases
from immuproxy.edge.push.attempt import Limits
from immuproxy.edge.recovery import Recovery
from immuproxy.edge.taken import Taken
from immuproxy.edge.upstream import DAMAGED, Upstream, UpstreamUnavailableError
from immuproxy.ledger.attention import AttentionKind
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.model import Action, Event, Outcome, State, TagRecord
from immuproxy.ledger.reader import Range
from immuproxy.ledger.register import Register
from immuproxy.ledger.watch import Ages
from immuproxy.oci.errors import OciError
from immuproxy.rules.model import RuleSet
from immuproxy.store.redis import LedgerUnavailableError

log = structlog.get_logger("immuproxy.sweep")

_JITTER = random.Random()  # noqa: S311  # no secret; of its own, so that nobody's seed is used up

INTERVAL = 15.0
"""Seconds between two passes, give or take half."""

_FINDINGS_A_CALL = 100

LATER_THAN_ANY = 2
"""Leases from now: no claim of today ends so late, whichever proxy it is of."""


def _nothing(_result: str | int) -> None:
    pass


class Sweep:
    """Walks over what is open."""

    def __init__(
        self,
        *,
        rules: Callable[[], RuleSet],
        register: Register,
        epoch: Epoch,
        exceptions: Exceptions,
        upstream: Upstream,
        recovery: Recovery,
        limits: Limits,
        healer: Healer,
        caller: Caller,
        witnesses: Witnesses,
        counted: Callable[[str], None] = _nothing,
        open_drift: Callable[[int], None] = _nothing,
    ) -> None:
        """``caller`` is who the proxy is at the upstream; ``counted`` is told the result for each tag compared, and
        ``open_drift`` how many findings of drift are open after each pass.
        """
        self._rules = rules
        self._register = register
        self._exceptions = exceptions
        self._upstream = upstream
        self._recovery = recovery
        self._limits = limits
        self._healer = healer
        self._caller = caller
        self._open_drift = open_drift
        self._comparison = Comparison(register, healer, upstream, counted=counted)
        cases = Cases(register, witnesses, limits)
        self._interrupted = Interrupted(register, cases, limits, self._seen)
        taken = Taken(rules, register, upstream)
        self._deletes = InterruptedDeletes(rules, register, cases, taken, limits=limits, caller=caller, seen=self._seen)
        self._late = Late(rules, register, epoch, upstream=upstream, limits=limits, caller=caller)

    @property
    def works(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """What goes on for ever, each by itself; cancel it to stop."""
        return tuple(partial(_for_ever, work) for work in (self.finish, self.compare, self.late))

    async def once(self) -> None:
        """One pass of each, one after the other."""
        await self.finish()
        await self.late()
        await self.compare()

    async def compare(self) -> None:
        """Compare the repositories that are due.  By itself, because it may take long, and nobody is to wait for it."""
        try:
            await self._comparison.once()
        except LedgerUnavailableError as error:
            log.warning("comparison postponed: the ledger does not answer", reason=str(error))

    async def late(self) -> None:
        """Look at what has landed after its tag was deleted.  By itself: after many deletes that takes long."""
        try:
            await self._late.once()
        except LedgerUnavailableError as error:
            log.warning("late writes are looked at later: the ledger does not answer", reason=str(error))

    async def finish(self) -> None:
        """One pass over what is open; what cannot be finished now stays for the next."""
        try:
            repositories = await self._register.repositories()
            opened = await self._register.attention.tidy(repositories)
            for repository in await self._register.unfinished(repositories):
                await self._apart(self._repository(repository), repository)
                await self._apart(self._give_back(repository), repository)
            for repository in opened[AttentionKind.EXCEPTION]:
                await self._apart(self._end_exceptions(repository), repository)
            for repository in opened[AttentionKind.DRIFT]:
                await self._apart(_close_stale(self._register, repository), repository)
            self._open_drift(sum((await self._register.attention.counts(AttentionKind.DRIFT)).values()))
        except LedgerUnavailableError as error:
            log.warning("sweep postponed: the ledger does not answer", reason=str(error))

    async def _apart(self, work: Awaitable[None], repository: str) -> None:
        await apart(work, self._register.now_ms, repository=repository)

    async def _repository(self, repository: str) -> None:
        ages = await self._register.ages(repository)
        for intent in await self._register.intents(repository):
            if not self._is_overdue(intent, ages):
                continue
            await self._apart(self._try_to_finish(intent, ages), repository)
        await self._interrupted.reconsider(repository, ages)

    async def _try_to_finish(self, intent: Event, ages: Ages) -> None:
        try:
            await self._finish(intent, ages)
        except (UpstreamUnavailableError, OciError) as error:
            log.warning("left open: the upstream does not tell", event_id=intent.id, reason=str(error))
        except UnheardError as error:
            log.warning("left open: the audit does not tell", event_id=intent.id, reason=str(error))

    async def _give_back(self, repository: str) -> None:
        """What lost proxies had only claimed: nothing was sent, and nothing waits for it but what it pins (H64).

        Also what is dated later than any claim could be: it was claimed before time went back (H112).
        """
        ages = await self._register.ages(repository)
        await self._give_back_between(repository, ("-inf", ages.now), ages)
        await self._give_back_between(repository, (ages.now + LATER_THAN_ANY * self._limits.lease_ms, "+inf"), ages)

    async def _give_back_between(self, repository: str, between: Range, ages: Ages) -> None:
        waiting = False
        tags = await self._register.past_claims(repository, between=between)
        for found in await self._register.records(repository, tags):
            claim = found.claim
            if claim is None or claim.state is not State.CLAIMED:
                continue
            if ages.is_over(claim):
                await self._register.release(repository, found.tag, token=claim.token, event=None, unarmed=True)
            elif claim.lease <= ages.now or claim.lease > ages.now + self._limits.lease_ms:
                waiting = True
        if not waiting:
            await self._register.forget_claims(repository, between=between)

    async def _end_exceptions(self, repository: str) -> None:
        """Temporary permissions whose time is over end with an event."""
        time = await self._register.clock.looked()
        for exemption in await self._exceptions.all(repository):
            if exemption.over <= time:
                event = record.own(
                    Action.EXCEPTION,
                    Outcome.ENDED,
                    repository,
                    tag=exemption.tag,
                    digest=exemption.digest,
                    reason=f"its time was over: {exemption.reason}",
                )
                await self._exceptions.end(exemption, event)

    def _is_overdue(self, intent: Event, ages: Ages) -> bool:
        return ages.of(intent.time) > self._limits.lease_ms

    async def _finish(self, intent: Event, ages: Ages) -> None:
        if intent.action is Action.REPAIR:
            await self._finish_repair(intent, ages)
            return
        if intent.action is not Action.PUSH:
            await self._deletes.finish(intent, ages)
            return
        found = await self._register.read(intent.repository, intent.tag) if intent.tag else None
        if found and found.claim and found.claim.event == intent.id:
            await self._finish_claim(found, ages)
        else:
            await self._interrupted.finish(intent, ages)

    async def _finish_claim(self, found: TagRecord, ages: Ages) -> None:
        """An armed claim whose lease has passed: commit what arrived; after the quarantine give up the rest."""
        claim = found.claim
        if claim is None or claim.state is not State.ARMED or not ages.is_over(claim):
            return
        if await self._arrived(found):
            return
        if self._limits.may_still_land(ages.of(claim.armed)):
            return
        closing = await self._recovery.given_up(found, self._caller)
        await self._register.release(found.repository, found.tag, token=claim.token, event=closing)

    async def _arrived(self, found: TagRecord) -> bool:
        """Whether what was armed is what the tag holds now.

        A killed registry may have left an empty link (H16).  Where the tag held nothing before, the link is written
        again; where it held something, that is put back once the overwrite is given up.
        """
        rule = self._rules().match(found.repository, found.tag)
        try:
            return await self._recovery.settle_or_mend(found, self._caller, rule)
        except UpstreamUnavailableError as error:
            if error.status != DAMAGED or found.committed is None:
                raise
            return False

    async def _finish_repair(self, intent: Event, ages: Ages) -> None:
        """A manifest that was to be put back (H92)."""
        if await self._seen(intent, intent.digest) == intent.digest:
            reason = "the upstream has it again; recorded after the repair was interrupted"
            ended = replace(intent, outcome=Outcome.HEALED, reason=reason)
        elif self._limits.may_still_land(ages.of(intent.time)):
            return
        else:
            ended = replace(intent, reason="the repair was interrupted, and the upstream does not hold its content")
        await self._register.conclude(intent.repository, ended)

    async def _seen(self, intent: Event, reference: str) -> str:
        """The digest that the upstream shows; empty when it has none such.  A blob's digest is asked for as a blob."""
        if intent.action is Action.DELETE_BLOB:
            present = await self._upstream.has_blob(intent.repository, intent.digest, self._caller)
            return intent.digest if present else ""
        return await shown(self._upstream, intent.repository, reference, self._caller)


async def _for_ever(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(INTERVAL * _JITTER.uniform(0.0, 1.0))
        await work()
        await asyncio.sleep(INTERVAL / 2)


async def _close_stale(register: Register, repository: str) -> None:
    """End findings about tags that were deleted or may move now: there is nothing left to compare.

    Raises `LedgerUnavailableError`.
    """
    names = [finding.tag for finding in await register.drifts(repository)]
    for at in range(0, len(names), _FINDINGS_A_CALL):
        for found in await register.records(repository, names[at : at + _FINDINGS_A_CALL]):
            if found.committed is None:
                reason = "the tag holds nothing any more, so nothing can differ from it"
                event = record.own(Action.REPAIR, Outcome.ENDED, repository, tag=found.tag, reason=reason)
                await register.close_drift(repository, found.tag, event)
