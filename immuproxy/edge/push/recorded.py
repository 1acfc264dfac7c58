"""A push that the register does not guard, a mutable tag or a manifest by digest: recorded, then passed on as it is."""

from __future__ import annotations

from dataclasses import replace

from immuproxy.edge import answers, record
from immuproxy.edge.answers import Answer
from immuproxy.edge.push.carrier import Carrier
from immuproxy.edge.push.evaluate import Evaluator
from immuproxy.edge.push.in_turn import InTurn
from immuproxy.edge.push.late_children import LateChildren
from immuproxy.edge.push.model import Push
from immuproxy.edge.push.platforms import Platforms
from immuproxy.edge.upstream import Found, Upstream, UpstreamUnavailableError
from immuproxy.ledger.model import Committed as Held
from immuproxy.ledger.model import Event, Outcome, TagRecord
from immuproxy.ledger.register import Register
from immuproxy.rules.model import Mode


class Recorder:
    """Decides nothing but which event a success will have, and passes the push on."""

    def __init__(
        self,
        register: Register,
        upstream: Upstream,
        evaluator: Evaluator,
        late_children: LateChildren,
        carrier: Carrier,
        *,
        in_turn: InTurn,
        platforms: Platforms,
    ) -> None:
        """All parts but ``in_turn`` are shared with the guard."""
        self._register = register
        self._upstream = upstream
        self._evaluator = evaluator
        self._late_children = late_children
        self._carrier = carrier
        self._in_turn = in_turn
        self._platforms = platforms

    async def push_tag(self, push: Push) -> Answer:
        """A tag that may move.  Raises like `immuproxy.edge.push.protocol.Guard.push`."""
        async with self._in_turn.alone(push.repository, push.tag, push.waits):
            self._evaluator.require_in_force(push)  # others may have been waited for (H103)
            self._platforms.begin(push.repository, push.manifest, push.caller)
            event = await self._foreseen(push, await self._before(push))
            await self._late_children.bring(push)
            until = await self._carrier.intend(push, event, moves=push.tag)
            return await self._carrier.send(push, push.tag, event, until=until)

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

    async def push_digest(self, push: Push, digest: str) -> Answer:
        """A manifest without a tag, by any of its digests: a child of an index, a referrer.

        What a protected tag needs and the upstream has is not written again: on many registries that breaks readers
        for a moment (H15).
        """
        if await self._late_children.bring(push):
            present = await self._upstream.probe(push.repository, digest, push.caller)
            if isinstance(present, Found):
                event = replace(
                    push.draft, outcome=Outcome.UNCHANGED, reason="a protected tag holds this manifest already"
                )
                await self._register.record(record.timed(event, push.caller))
                return answers.created(push.repository, digest, push.caller.edge_origin)
        self._platforms.begin(push.repository, push.manifest, push.caller)
        event = replace(push.draft, outcome=Outcome.CREATED, reason="pushed by digest")
        until = await self._carrier.intend(push, event, moves="")
        return await self._carrier.send(push, digest, event, until=until)

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
        now = await self._register.clock.time()
        held = Held(before.digest, 1, now, now, media_type=before.media_type, aged_from=now) if before else None
        seen = TagRecord(push.repository, push.tag, committed=held, generation=1 if held else 0)
        verdict = await self._evaluator.push(push, seen, now_ms=now)
        return replace(event, shadow=verdict.shadow, reason=verdict.reason)
