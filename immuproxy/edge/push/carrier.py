"""One PUT between an intent and its outcome, for whatever no claim guards: a tag that may move, a manifest by digest,
and what a tag holds already and the upstream has lost (H92).

A proxy that dies in between leaves the intent, and the sweep finds out how it ended.  One that stands still sends
nothing once its push may be given up: what is told then stays true (H114).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from immuproxy.audit.testimony import UnheardError
from immuproxy.edge import answers, proof, record
from immuproxy.edge.answers import Answer
from immuproxy.edge.cases import Cases
from immuproxy.edge.failpoints import Failpoint, reach
from immuproxy.edge.freed import once_free
from immuproxy.edge.push.attempt import Limits
from immuproxy.edge.push.late_children import LateChildren
from immuproxy.edge.push.model import Push, RuleChangedError
from immuproxy.edge.push.platforms import Platforms
from immuproxy.edge.refusals import first_message
from immuproxy.edge.upstream import Found, OutcomeUnknownError, Upstream
from immuproxy.ledger.model import Event, Outcome, Step
from immuproxy.ledger.register import Register
from immuproxy.oci import errors
from immuproxy.rules.model import RuleSet

HELD_BY_NOW = "a rule came to hold the tag while this push was under way, so it was judged once more"

STOOD_STILL = "the proxy stood still for too long in the middle of this push, and sent nothing"


class Carrier:
    """Writes the intent, sends the one PUT, writes the outcome."""

    def __init__(
        self,
        rules: Callable[[], RuleSet],
        register: Register,
        upstream: Upstream,
        *,
        late_children: LateChildren,
        limits: Limits,
        platforms: Platforms,
        cases: Cases,
    ) -> None:
        """``rules`` gives the rule set in force; all parts are shared with the guard."""
        self._rules = rules
        self._register = register
        self._upstream = upstream
        self._late_children = late_children
        self._limits = limits
        self._platforms = platforms
        self._cases = cases

    async def intend(self, push: Push, event: Event, *, moves: str) -> float:
        """Write that the push may reach the upstream from now on, and return until when, by the loop's clock.

        ``event``: the one that a success will have; ``moves``: the tag that may come to hold something else, and whose
        record goes where it still has one.  Raises `RuleChangedError` where a rule has come to hold it: a push that it
        guards may have committed meanwhile, and that record must not go (H104).
        """

        async def intended() -> float | None:
            known = await self._register.read(push.repository, moves) if moves else None
            self._require_unheld(push)
            until = self._until()
            step = await self._register.intend(
                push.repository,
                moves,
                push.manifest.needs,
                _draft(event),
                over_generation=known.generation if known else 0,
            )
            return until if step is Step.OK else None

        return await once_free(intended, others="another push or delete of this content")

    async def intend_again(self, push: Push, event: Event) -> float:
        """As `intend`, for what the tag holds already; 503 while that may be about to change, or is being deleted,
        which the push would undo.  No other content is claimed before the push can no longer land (H121).
        """
        until = self._until()
        repository, held = push.repository, push.manifest.digest
        needs = push.manifest.needs | {held, f"tag:{push.tag}"}
        if not await self._register.begin_heal(repository, push.tag, held=held, name=event.id):
            raise errors.unavailable("what this tag holds is being deleted or may be about to change; try again")
        if await self._register.intend(repository, "", needs, _draft(event)) is not Step.OK:
            await self._register.end_heal(repository, push.tag, name=event.id)
            raise errors.unavailable("what this tag holds is being deleted; try again")
        return until

    def _until(self) -> float:
        return self._limits.until(asyncio.get_running_loop().time())

    async def send(self, push: Push, reference: str, event: Event, *, until: float, looks: bool = False) -> Answer:
        """The PUT, once it is intended, and its outcome; nothing is sent after ``until``.

        ``looks``: it was intended with `intend_again`, and a success counts only where it is seen (H16, H25).  Raises
        503 where the outcome is unknown.
        """
        reach(Failpoint.PUT_SENT)
        if asyncio.get_running_loop().time() > until:
            await self._landed(push, event, looks=looks)
            await self._conclude(push, replace(event, outcome=Outcome.FAILED, reason=STOOD_STILL))
            raise errors.unavailable(f"{STOOD_STILL}; try again")
        try:
            answer = await self._upstream.put_manifest(
                push.repository, reference, push.manifest.body, push.caller, until=until
            )
        except OutcomeUnknownError:
            return await self._seen(push, reference, event)
        reach(Failpoint.PUT_APPLIED)
        await self._landed(push, event, looks=looks)
        if answer.status >= 300:
            reason = f"the upstream answered {answer.status}: {first_message(answer)}"
            await self._conclude(push, replace(event, outcome=Outcome.FAILED, reason=reason))
            return answer
        return await self._seen(push, reference, event) if looks else await self._arrived(push, event, answer)

    async def _landed(self, push: Push, event: Event, *, looks: bool) -> None:
        """Other content may come now, where `intend_again` kept it away."""
        if looks:
            await self._register.end_heal(push.repository, push.tag, name=event.id)

    async def _seen(self, push: Push, reference: str, event: Event) -> Answer:
        """What the upstream shows decides; of a tag that may move, only where it proves something (H63, H114)."""
        found = await self._upstream.probe(push.repository, reference, push.caller)
        shown = found.digest if isinstance(found, Found) else ""
        if await self._is_proved(push, event, shown):
            created = answers.created(push.repository, push.manifest.digest, push.caller.edge_origin)
            return await self._arrived(push, event, created)
        raise errors.unavailable("the upstream did not say whether it stored the push; try again")

    async def _is_proved(self, push: Push, event: Event, shown: str) -> bool:
        """A digest, and a tag that a rule holds, have one content, whoever brought it; a tag that may move shows what
        somebody has pushed, with the same content perhaps.  A client does not wait for an index: the sweep does (H133).
        """
        if shown != push.manifest.digest or not push.tag or push.rule.protects:
            return shown == push.manifest.digest
        intent = await self._register.intent(push.repository, event.id)
        try:
            return intent is not None and proof.arrived(await self._cases.of(intent), shown) is not None
        except UnheardError:
            return False

    async def _arrived(self, push: Push, event: Event, answer: Answer) -> Answer:
        await self._late_children.bring(push)
        try:
            self._require_unheld(push)
        except RuleChangedError:
            await self._conclude(push, replace(event, outcome=Outcome.FAILED, reason=HELD_BY_NOW))
            raise
        await self._conclude(push, event)
        return answer

    def _require_unheld(self, push: Push) -> None:
        """A push to a tag that was free to move must not be answered past the ledger once a rule holds it (H104)."""
        if push.tag and not push.rule.protects and self._rules().protects(push.repository, push.tag):
            raise RuleChangedError

    async def _conclude(self, push: Push, event: Event) -> None:
        """What the sweep has told of a proxy that it took for dead stands where it was proved; else this follows it."""
        event = self._platforms.shown(record.timed(event, push.caller), push.manifest)
        await self._register.conclude(push.repository, event)


def _draft(event: Event) -> Event:
    return replace(event, outcome=Outcome.FAILED, reason=record.UNKNOWN)
