"""``GET`` and ``HEAD /v2/<name>/manifests/<reference>`` of a protected tag, and of what one needs: answered according
to the ledger (H15, H23-H28).

Look at the ledger, see who may have an answer from memory, give it from there; whoever may not, and what is not there,
takes the way by the registry (`immuproxy.edge.registry_reads`).  Nothing is told from before the read: what a tag holds
comes from a look that began after it (`immuproxy.edge.look`), and only bytes by digest come from memory.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import structlog

from immuproxy.edge import answers, second_look
from immuproxy.edge.answers import Answer
from immuproxy.edge.caller import Caller
from immuproxy.edge.look import Looks
from immuproxy.edge.manifest_memory import ManifestMemory
from immuproxy.edge.memory import Memory
from immuproxy.edge.pull_rights import PullRights
from immuproxy.edge.recovery import Recovery
from immuproxy.edge.registry_reads import RegistryReads
from immuproxy.edge.second_look import SecondLooks
from immuproxy.edge.upstream import Found, Upstream, UpstreamUnavailableError
from immuproxy.ledger.model import Committed, State, TagRecord
from immuproxy.ledger.register import Register
from immuproxy.oci import errors
from immuproxy.oci.errors import OciError
from immuproxy.oci.routes import Operation
from immuproxy.rules.model import Policy, Rule
from immuproxy.store.redis import LedgerUnavailableError, ProxyOverloadedError
from immuproxy.telemetry.metrics import Metrics

log = structlog.get_logger("immuproxy.edge")


class Reads:
    """Reads of protected tags."""

    def __init__(
        self,
        register: Register,
        upstream: Upstream,
        recovery: Recovery,
        registry: RegistryReads,
        pull_rights: PullRights,
        *,
        manifests: ManifestMemory,
        known: Memory,
        pass_unknown: bool,
        metrics: Metrics,
    ) -> None:
        """``pass_unknown`` lets reads of tags pass that this process knows nothing of while Redis is down."""
        self._register = register
        self._upstream = upstream
        self._recovery = recovery
        self._registry = registry
        self._pull_rights = pull_rights
        self._manifests = manifests
        self._known = known
        self._pass_unknown = pass_unknown
        self._metrics = metrics
        self._records = Looks(register.records_at, shard=register.node_of, begun=metrics.looked)
        self._needed = Looks(register.are_stored, shard=register.node_of, begun=metrics.looked)
        self._second_looks = SecondLooks(second_look.AT_ONCE)

    async def read(self, operation: Operation, caller: Caller, rule: Rule) -> Answer:
        """The answer to a read; raises `OciError`, `UpstreamUnavailableError`."""
        try:
            found = await self._record(operation)
        except LedgerUnavailableError as error:
            return await self._without_ledger(operation, caller, rule, error)
        held = found.committed
        if held is None:
            self._known.forget(operation.repository, operation.reference)
            return await self._uncommitted(operation, caller, rule, found)
        self._known.keep(found, held)
        answer = await self._from_memory(operation, caller, held.digest)
        if answer is None:
            return await self._registry.tag(operation, caller, found, held)
        # A GET, because the answer to HEAD may be about bytes that are gone (H25).
        asked = replace(operation, method="GET")
        self._second_looks.after((found.repository, found.tag), lambda: self._registry.tag(asked, caller, found, held))
        return answer

    async def read_digest(self, operation: Operation, caller: Caller) -> Answer | None:
        """The answer to a read by digest of what a protected tag needs; None for all else, which goes straight through.

        Raises as `read`.
        """
        try:
            if not await self._needed.at((operation.repository, operation.reference)):
                return None
            answer = await self._from_memory(operation, caller, operation.reference)
            return answer or await self._registry.digest(operation, caller)
        except LedgerUnavailableError:
            return None

    async def ended(self) -> None:
        """Give up what goes on behind the answers."""
        await self._second_looks.ended()

    async def _record(self, operation: Operation) -> TagRecord:
        """What the ledger knows; asked a second time where only the proxy was to blame."""
        place = (operation.repository, operation.reference)
        try:
            return await self._records.at(place)
        except ProxyOverloadedError:
            return await self._records.at(place)

    async def _from_memory(self, operation: Operation, caller: Caller, digest: str) -> Answer | None:
        """A manifest that the ledger has just named; None where the registry is to be asked.

        That gives other things to clients which do not name the type (H23).
        """
        stored = None
        if await self._pull_rights.may_pull(operation.repository, digest, caller):
            stored = await self._manifests.of(operation.repository, digest)
        if stored is None or not caller.accepts(stored.media_type):
            self._metrics.manifest_read("upstream")
            return None
        self._metrics.manifest_read("memory")
        return answers.conditional(caller.headers, answers.manifest(stored, self._upstream.standing), digest)

    # --- the ledger does not know (yet)

    async def _uncommitted(self, operation: Operation, caller: Caller, rule: Rule, found: TagRecord) -> Answer:
        """Absent or only claimed: what the upstream shows is adopted; an armed claim is helped, or not visible yet
        (H28).
        """
        seen = await self._upstream.probe(operation.repository, operation.reference, caller)
        if not isinstance(seen, Found):
            return seen
        claim = found.claim
        if claim and claim.state is State.ARMED and claim.digest != seen.digest:
            raise _unknown_manifest(operation)
        try:
            await self._recovery.settle_as(found, seen, caller, rule)
        except OciError as error:
            if error.status >= 500 or claim:
                raise
            return await self._unadopted(operation, caller, error)
        now = await self._register.read(operation.repository, operation.reference)
        if now.committed is None:
            raise _unknown_manifest(operation)
        self._known.keep(now, now.committed)
        return await self._registry.tag(operation, caller, now, now.committed)

    async def _unadopted(self, operation: Operation, caller: Caller, error: OciError) -> Answer:
        """A tag that predates the proxy and needs more than one tag may (H85): nobody may move it, and whoever pulls it
        gets what the upstream shows.
        """
        log.warning(
            "a tag cannot be adopted, so what it holds is what the upstream shows",
            repository=operation.repository,
            tag=operation.reference,
            reason=error.message,
        )
        return await self._registry.as_asked(operation, caller, operation.reference)

    # --- the ledger cannot be asked

    async def _without_ledger(
        self, operation: Operation, caller: Caller, rule: Rule, error: LedgerUnavailableError
    ) -> Answer:
        """An unknown tag passes only where Redis was asked and did not answer: the proxy's own shortage, which anybody
        can bring about, opens nothing (H82).
        """
        held = self._known.of(operation.repository, operation.reference)
        if held:
            return await self._as_remembered(operation, caller, held, rule)
        if isinstance(error, ProxyOverloadedError):
            raise error
        if self._pass_unknown:
            return await self._registry.as_asked(operation, caller, operation.reference)
        raise errors.unavailable("the ledger (Redis) does not answer, and what this tag holds is not known here")

    async def _as_remembered(self, operation: Operation, caller: Caller, held: Committed, rule: Rule) -> Answer:
        """What this process knows of the tag, unless it may have changed since.

        Anything else at the upstream is drift, or an overwrite that another proxy carried and recorded, by the rule or
        by an exception: only the ledger could tell.  Nothing there may be a delete, where those are allowed, and is
        otherwise a link half-written (H15) or lost.
        """
        seen: Found | Answer | None = None
        with suppress(UpstreamUnavailableError):
            seen = await self._upstream.probe(operation.repository, operation.reference, caller)
        if isinstance(seen, Answer) and (seen.status != 404 or rule.delete_allowed):
            return seen
        shown = seen.digest if isinstance(seen, Found) else ""
        if shown != held.digest and (shown or _may_change(rule)):
            raise errors.unavailable(
                "the ledger (Redis) does not answer, and the upstream does not show what this tag held before"
            )
        overwritable = _may_change(rule) or held.generation > 1
        if overwritable and not self._known.is_settled(operation.repository, operation.reference):
            raise errors.unavailable(
                "the ledger (Redis) does not answer, and this tag may have been overwritten a short time ago"
            )
        return await self._exactly_without_ledger(operation, caller, held)

    async def _exactly_without_ledger(self, operation: Operation, caller: Caller, held: Committed) -> Answer:
        try:
            return await self._registry.exactly(operation, caller, held)
        except LedgerUnavailableError as error:
            raise errors.unavailable(
                "neither the ledger (Redis) nor the upstream gives out what this tag holds"
            ) from error


def _may_change(rule: Rule) -> bool:
    return bool(rule.overwrite) or rule.policy not in {Policy.IMMUTABLE, Policy.FROZEN}


def _unknown_manifest(operation: Operation) -> OciError:
    return OciError(404, "MANIFEST_UNKNOWN", "manifest unknown", detail={"Tag": operation.reference})
