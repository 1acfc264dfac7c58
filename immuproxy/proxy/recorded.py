"""A push that the register does not guard, a mutable tag or a manifest by digest: recorded, then passed on as it is."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from immuproxy.ledger.ids import new_event_id
from immuproxy.ledger.model import Committed as Held
from immuproxy.ledger.model import Event, Outcome, Step, TagRecord
from immuproxy.ledger.register import Register
from immuproxy.oci import errors
from immuproxy.proxy import answers, record
from immuproxy.proxy.answers import Answer
from immuproxy.proxy.judge import Judge
from immuproxy.proxy.push import Library, Push
from immuproxy.proxy.refusals import first_message
from immuproxy.proxy.upstream import Found, OutcomeUnknownError, Upstream, UpstreamUnavailableError
from immuproxy.rules.model import Mode

PAUSE = 0.1
TRIES = 100


class Recorder:
    """Writes the intent, sends the one PUT, writes the outcome."""

    def __init__(self, register: Register, upstream: Upstream, library: Library, judge: Judge) -> None:
        """All parts are shared with the guard."""
        self._register = register
        self._upstream = upstream
        self._library = library
        self._judge = judge

    async def push_tag(self, push: Push) -> Answer:
        """A tag that may move.  Raises like `immuproxy.proxy.guard.Guard.push`."""
        event = await self._foreseen(push, await self._before(push))
        return await self._carry(push, push.tag, event)

    async def _before(self, push: Push) -> Found | None:
        """What the tag holds now; that the upstream cannot tell is no reason not to let it move.

        A link that a crash left empty answers 500 until somebody pushes the tag again (H16).
        """
        try:
            before = await self._upstream.probe(push.repository, push.tag, push.caller)
        except UpstreamUnavailableError as error:
            if not error.status:
                raise
            return None
        return before if isinstance(before, Found) else None

    async def push_digest(self, push: Push) -> Answer:
        """A manifest without a tag: a child of an index, a referrer.

        What a protected tag needs and the upstream has is not written again: on many registries that breaks readers
        for a moment (H15).
        """
        if await self._register.is_pinned(push.repository, push.manifest.digest):
            present = await self._upstream.probe(push.repository, push.manifest.digest, push.caller)
            if isinstance(present, Found):
                event = replace(
                    push.draft, outcome=Outcome.UNCHANGED, reason="a protected tag holds this manifest already"
                )
                await self._register.record(record.timed(event, push.caller))
                return answers.created(push.repository, push.manifest.digest, push.caller.edge_origin)
            await self._pin_all(push)
        event = replace(push.draft, outcome=Outcome.CREATED, reason="pushed by digest")
        return await self._carry(push, push.manifest.digest, event)

    async def _pin_all(self, push: Push) -> None:
        """A child that a committed index lists, and that comes only now: the tag needs what it needs (H31)."""
        content = await self._library.content(push.repository, push.manifest, push.caller)
        await self._register.pin(push.repository, content.needs)

    async def _foreseen(self, push: Push, before: Found | None) -> Event:
        """The event that a success will have."""
        outcome = Outcome.CREATED
        if before:
            outcome = Outcome.UNCHANGED if before.digest == push.manifest.digest else Outcome.OVERWRITTEN
        event = replace(
            push.draft,
            outcome=outcome,
            previous_digest=before.digest if before else "",
            reason=f"rule {push.rule.name} lets the tag move",
        )
        return await self._shadowed(push, event, before) if push.rule.mode is Mode.SHADOW else event

    async def _shadowed(self, push: Push, event: Event, before: Found | None) -> Event:
        """What the rule would have said, were it not in shadow mode."""
        now = record.now_ms()
        held = Held(before.digest, 1, now, now, media_type=before.media_type) if before else None
        seen = TagRecord(push.repository, push.tag, committed=held, generation=1 if held else 0)
        verdict = await self._judge.push(push, seen, now_ms=now)
        return replace(event, shadow=verdict.shadow, reason=verdict.reason)

    async def _carry(self, push: Push, reference: str, event: Event) -> Answer:
        await self._intend(push, replace(event, outcome=Outcome.FAILED, reason=record.UNKNOWN))
        try:
            answer = await self._upstream.put_manifest(push.repository, reference, push.manifest.body, push.caller)
        except OutcomeUnknownError:
            return await self._look(push, reference, event)
        if answer.status >= 300:
            reason = f"the upstream answered {answer.status}: {first_message(answer)}"
            event = replace(event, outcome=Outcome.FAILED, reason=reason)
        await self._conclude(push, event)
        return answer

    async def _intend(self, push: Push, draft: Event) -> None:
        for _ in range(TRIES):
            step = await self._register.intend(push.repository, push.tag, push.manifest.needs, draft)
            if step is Step.OK:
                return
            await asyncio.sleep(PAUSE)
        raise errors.unavailable("another push or delete of this content has not ended yet; try again")

    async def _look(self, push: Push, reference: str, event: Event) -> Answer:
        """The outcome of the PUT is unknown: what the upstream shows decides; else the sweep will (H63)."""
        found = await self._upstream.probe(push.repository, reference, push.caller)
        if isinstance(found, Found) and found.digest == push.manifest.digest:
            await self._conclude(push, event)
            return answers.created(push.repository, push.manifest.digest, push.caller.edge_origin)
        raise errors.unavailable("the upstream did not say whether it stored the push; try again")

    async def _conclude(self, push: Push, event: Event) -> None:
        event = record.timed(event, push.caller)
        if not await self._register.conclude(push.repository, event):
            # The sweep took this proxy for dead and wrote how it looked then; this is how it ended.
            await self._register.record(replace(event, id=new_event_id()))
