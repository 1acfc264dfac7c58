"""Finishing what is not finished: adoption of what the upstream shows, and armed claims whose owner is gone.

Readers, the next pusher and the sweep all come here, so that there is one way in which the ledger learns from the
upstream: through a probe with verified bytes, and one atomic step that checks what the caller saw.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from immuproxy.edge import headers, record
from immuproxy.edge.caller import Caller
from immuproxy.edge.push.attempt import Limits
from immuproxy.edge.push.late_children import LateChildren
from immuproxy.edge.push.model import ManifestStore
from immuproxy.edge.upstream import DAMAGED, Found, Upstream, UpstreamUnavailableError
from immuproxy.ledger.content import Content
from immuproxy.ledger.model import Action, Event, Outcome, Reply, State, Step, TagRecord
from immuproxy.ledger.register import Register
from immuproxy.oci import manifests
from immuproxy.oci.errors import unavailable
from immuproxy.rules.model import Rule

CAME_TO_NOTHING = (
    "the push was interrupted; the tag does not show its content, which the upstream has, and nothing proves whether "
    "it did before"
)

TAKEN_OVER = "the proxy stopped; a push of the same content took over"


async def _nobody(_repository: str, _tag: str, _digest: str) -> None:
    pass


class Recovery:
    """Turns what the upstream shows into records."""

    def __init__(
        self,
        register: Register,
        upstream: Upstream,
        manifest_store: ManifestStore,
        limits: Limits,
        adopted: Callable[[str, str, str], Awaitable[None]] = _nobody,
    ) -> None:
        """Look at ``upstream``, write to ``register``; ``adopted`` is told the repository, tag and digest of what no
        push stands behind that the ledger knows.
        """
        self._adopted = adopted
        self._late_children = LateChildren(register, manifest_store)
        self._limits = limits
        self._register = register
        self._upstream = upstream
        self._manifest_store = manifest_store

    async def adopt(self, repository: str, tag: str, found: Found, caller: Caller, rule: Rule) -> Reply:
        """Take a tag that the upstream had before the ledger knew it (H71)."""
        content = await self._content(repository, found, caller)
        event = record.own(
            Action.ADOPT,
            Outcome.ADOPTED,
            repository,
            tag=tag,
            rule=rule.name,
            rule_line=rule.line,
            reason="the upstream held this tag before the ledger knew it",
            **_described(content),
        )
        reply = await self._register.adopt(repository, tag, content, event=event, reuse=rule.reuse_allowed)
        if reply.record.committed and reply.record.committed.event == event.id:
            await self._adopted(repository, tag, found.digest)
        await self._late_children.find(repository, content.missing, caller)
        await self._keep(repository, content, caller)
        return reply

    async def settle(self, found: TagRecord, caller: Caller, rule: Rule) -> bool:
        """Look what became of an armed claim; true when the tag is committed now, false when nothing has arrived (yet).

        Raises `UpstreamUnavailableError`, or 503 where the caller may not see the tag.
        """
        seen = await self._upstream.probe(found.repository, found.tag, caller)
        if isinstance(seen, Found):
            return await self.settle_as(found, seen, caller, rule)
        if seen.status != 404:
            raise unavailable("the upstream does not let this client see the tag")
        return False

    async def settle_as(self, found: TagRecord, seen: Found, caller: Caller, rule: Rule) -> bool:
        """As `settle`, with what a probe has shown already."""
        claim = found.claim
        if claim is None or claim.state is not State.ARMED:
            reply = await self.adopt(found.repository, found.tag, seen, caller, rule)
            return reply.record.committed is not None
        if seen.digest != claim.digest and found.committed:
            return False
        content = await self._content(found.repository, seen, caller)
        event = await self._finishing(found, content, rule)
        closing = None
        if seen.digest != claim.digest:
            closing = await self.given_up(found, caller, shown=seen.digest)
        reply = await self._register.adopt(
            found.repository,
            found.tag,
            content,
            event=event,
            reuse=rule.reuse_allowed,
            seen=claim,
            first=not found.committed,
            closing=closing,
        )
        await self._late_children.find(found.repository, content.missing, caller)
        await self._keep(found.repository, content, caller)
        return reply.record.committed is not None and reply.record.claim is None

    async def settle_or_mend(self, found: TagRecord, caller: Caller, rule: Rule) -> bool:
        """As `settle`, for a claim whose owner is gone: where a killed registry has left the link of its tag empty,
        the link is written again (H16).
        """
        try:
            return await self.settle(found, caller, rule)
        except UpstreamUnavailableError as error:
            if error.status != DAMAGED or found.committed or not await self._mended(found, caller):
                raise
        return await self.settle(found, caller, rule)

    async def _mended(self, found: TagRecord, caller: Caller) -> bool:
        """Send the content of an armed claim once more, as its owner would have done; whether it was sent.

        Nothing else may arrive under this claim anyway.  The quarantine begins anew, as this PUT may be late as well;
        the lease does not, so that a push of the same content need not wait.
        """
        claim, draft = found.claim, await self._draft(found)
        seen = await self._upstream.probe(found.repository, claim.digest, caller) if claim else None
        if claim is None or draft is None or not isinstance(seen, Found):
            return False
        content = await self._content(found.repository, seen, caller)
        began = asyncio.get_running_loop().time()
        reply = await self._register.arm(
            found.repository, found.tag, content, token=claim.token, lease_ms=0, draft=draft, closing=None
        )
        if reply.step is Step.LOST:
            return False
        until = self._limits.until(began)
        await self._upstream.put_manifest(found.repository, found.tag, seen.body, _sending(caller, seen), until=until)
        return True

    async def given_up(self, found: TagRecord, caller: Caller, *, shown: str = "") -> Event | None:
        """The event that ends an armed claim whose content the tag does not show and which can land no more; None when
        it has none.

        ``shown``: what the tag shows where it held nothing before.  That the push never arrived is proved where a tag
        that held nothing shows nothing, or where the upstream does not have the content, which the claim keeps from
        being deleted.  Else the tag may have shown it: a late push of what it held before can have come after it
        (H123).  Raises `UpstreamUnavailableError`.
        """
        draft = await self._draft(found)
        if draft is None:
            return None
        is_absent = found.committed is None and not shown
        if is_absent or not await self._may_have(found, caller):
            return replace(draft, outcome=Outcome.FAILED, reason="the push never reached the upstream")
        return replace(draft, outcome=Outcome.UNKNOWN, reason=CAME_TO_NOTHING)

    async def taken_over(self, found: TagRecord) -> Event | None:
        """The event that ends the intent of an armed claim which a push of the same content goes on with; None when it
        has none.  Nobody knows yet what was sent for it (H123).
        """
        draft = await self._draft(found)
        return replace(draft, outcome=Outcome.UNKNOWN, reason=TAKEN_OVER) if draft else None

    async def _may_have(self, found: TagRecord, caller: Caller) -> bool:
        """Whether the upstream may have a claim's content by its digest, also where it cannot read it (H16)."""
        if found.claim is None:
            return False
        try:
            seen = await self._upstream.probe(found.repository, found.claim.digest, caller)
        except UpstreamUnavailableError as error:
            if error.status != DAMAGED:
                raise
            return True
        return isinstance(seen, Found) or seen.status != 404

    async def _finishing(self, found: TagRecord, content: Content, rule: Rule) -> Event:
        """The event of a claim that arrived after all: the one its pusher would have written."""
        claim = found.claim
        draft = await self._draft(found) if claim and claim.digest == content.digest else None
        if draft is None:
            return record.own(
                Action.ADOPT,
                Outcome.ADOPTED,
                found.repository,
                tag=found.tag,
                rule=rule.name,
                rule_line=rule.line,
                reason="the upstream held this when an interrupted push was settled",
                **_described(content),
            )
        held = found.committed.digest if found.committed else ""
        outcome = Outcome.OVERWRITTEN if held else Outcome.CREATED
        reason = "the upstream had stored it; recorded after the push was interrupted"
        return replace(draft, outcome=outcome, previous_digest=held, reason=reason)

    async def _draft(self, found: TagRecord) -> Event | None:
        if found.claim is None or not found.claim.event:
            return None
        return await self._register.intent(found.repository, found.claim.event)

    async def _content(self, repository: str, found: Found, caller: Caller) -> Content:
        manifest = manifests.describe(found.body, found.media_type)
        # Of schema 1 only the registry knows the digest (H17).
        return await self._manifest_store.content(repository, replace(manifest, digest=found.digest), caller)

    async def _keep(self, repository: str, content: Content, caller: Caller) -> None:
        """The tag holds it by now; a copy that cannot be had is no reason to say otherwise."""
        with suppress(UpstreamUnavailableError):
            await self._manifest_store.keep(repository, content, caller)


def _sending(caller: Caller, manifest: Found) -> Caller:
    sent = headers.without(caller.headers, {"content-type"})
    sent["Content-Type"] = manifest.media_type
    return caller.with_headers(sent)


def _described(content: Content) -> dict[str, Any]:
    return {
        "digest": content.digest,
        "media_type": content.media_type,
        "size": content.size,
        "platforms": content.platforms,
    }
