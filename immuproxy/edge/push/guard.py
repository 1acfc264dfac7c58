"""A push to a protected tag: claim -> probe -> arm -> one PUT -> verify -> commit.

The upstream has no compare-and-set, so the ledger decides who may set the tag and the upstream only stores content.
Nothing here trusts what it learnt before the claim; every branch that does not know answers 503 and leaves a state that
anybody can finish (`immuproxy.drift`).  The two halves are `claiming` and `sending`.
Hazards H13-H22, H53-H56, H61-H77.
"""

from __future__ import annotations

from collections.abc import Sequence

from immuproxy.edge import record
from immuproxy.edge.answers import Answer
from immuproxy.edge.closure import check_listed
from immuproxy.edge.push.attempt import Attempt, Limits, Retry, renewed
from immuproxy.edge.push.blob_check import BlobChecks
from immuproxy.edge.push.carrier import Carrier
from immuproxy.edge.push.claim_cleanup import ClaimCleanup
from immuproxy.edge.push.claiming import Claiming
from immuproxy.edge.push.evaluate import Evaluator
from immuproxy.edge.push.late_children import LateChildren
from immuproxy.edge.push.model import ManifestStore, Push
from immuproxy.edge.push.multi_tag import MultiTag
from immuproxy.edge.push.platforms import Platforms
from immuproxy.edge.push.sending import Sending
from immuproxy.edge.recovery import Recovery
from immuproxy.edge.refusals import Refusals
from immuproxy.edge.upstream import Upstream
from immuproxy.ledger.content import Content
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.register import Register


class Guard:
    """Carries pushes of protected tags; safe with any number of proxies on one ledger."""

    def __init__(
        self,
        *,
        register: Register,
        epoch: Epoch,
        upstream: Upstream,
        library: ManifestStore,
        late_children: LateChildren,
        carrier: Carrier,
        looks: BlobChecks,
        judge: Evaluator,
        recovery: Recovery,
        refusals: Refusals,
        limits: Limits,
        platforms: Platforms,
    ) -> None:
        """All parts are shared with the other ways of a request."""
        self._library = library
        self._late_children = late_children
        self._looks = looks
        self._amends = ClaimCleanup(register, lease=limits.lease)
        self._sending = Sending(register, upstream, recovery, limits, platforms)
        self._claiming = Claiming(
            register=register,
            epoch=epoch,
            upstream=upstream,
            library=library,
            looks=looks,
            judge=judge,
            recovery=recovery,
            refusals=refusals,
            late_children=late_children,
            carrier=carrier,
            limits=limits,
        )
        self._several = MultiTag(self._claiming, self._sending, self._amends)

    async def push(self, push: Push) -> Answer:
        """Carry one push to its end.

        Run it in a task of its own that outlives the client (H47).  Raises `immuproxy.oci.errors.OciError` (503 when
        nothing can be decided now), `UpstreamUnavailableError` and `LedgerUnavailableError`.
        """
        refused = await self._refused([push])
        if refused is not None:
            return refused
        content = await self._content(push)
        while True:
            attempt = Attempt(push, content, record.new_token())
            try:
                with self._amends.owed(attempt):
                    answer = await self._claiming.acquire(attempt)
                    return await self._carry(attempt) if answer is None else answer
            except Retry:
                push = renewed(push)

    async def push_all(self, pushes: Sequence[Push]) -> Answer:
        """Carry pushes of one manifest to several tags: all are claimed and armed before the first is sent (H11).

        ``pushes`` in the order of their tags, so that two such pushes cannot wait for each other.  Returns the first
        answer that is no success; what was set before the upstream gave that answer stays set.  Raises like `push`.
        """
        refused = await self._refused(pushes)
        return refused or await self._several.push(pushes, await self._content(pushes[0]))

    async def ended(self) -> None:
        """Before the ledger's connection closes."""
        await self._looks.ended()
        await self._amends.ended()

    async def _refused(self, pushes: Sequence[Push]) -> Answer | None:
        """The first refusal that does not depend on what the index reaches, which is dear to learn (H85)."""
        if not pushes[0].manifest.children:
            return None
        check_listed(pushes[0].manifest)
        for push in pushes:
            refused = await self._claiming.refused(push)
            if refused is not None:
                return refused
        return None

    async def _content(self, push: Push) -> Content:
        content = await self._library.content(push.repository, push.manifest, push.caller, push.take)
        await self._late_children.bring_guarded(push, content)
        return content

    async def _carry(self, attempt: Attempt) -> Answer:
        """From the claim to the commit."""
        await self._sending.arm(attempt)
        return await self._sending.send(attempt)
