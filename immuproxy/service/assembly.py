"""How the parts of the edge are put together; decides nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from immuproxy.allow.exceptions import Exceptions
from immuproxy.audit import Visitor
from immuproxy.audit.testimony import Told, Witnesses
from immuproxy.drift.healer import Healer
from immuproxy.drift.service import anonymous_service
from immuproxy.edge.access_log import AccessLog
from immuproxy.edge.adoptions import Adoptions
from immuproxy.edge.authority import Authority
from immuproxy.edge.caller import Caller
from immuproxy.edge.cases import Cases
from immuproxy.edge.deletes import Deletes
from immuproxy.edge.handler import ClientAddressing, Edge
from immuproxy.edge.manifest_memory import ManifestMemory
from immuproxy.edge.memory import Memory
from immuproxy.edge.pull_rights import PullRights
from immuproxy.edge.push.attempt import Limits
from immuproxy.edge.push.blob_check import BlobChecks
from immuproxy.edge.push.carrier import Carrier
from immuproxy.edge.push.claim_cleanup import ClaimCleanup
from immuproxy.edge.push.evaluate import Evaluator
from immuproxy.edge.push.in_turn import InTurn
from immuproxy.edge.push.late_children import LateChildren
from immuproxy.edge.push.model import ManifestStore
from immuproxy.edge.push.multi_tag import MultiTag
from immuproxy.edge.push.platforms import Platforms
from immuproxy.edge.push.protocol import Guard
from immuproxy.edge.push.put_manifest import ManifestPuts
from immuproxy.edge.push.recorded import Recorder
from immuproxy.edge.reads import Reads
from immuproxy.edge.recovery import Recovery
from immuproxy.edge.refusals import Refusals
from immuproxy.edge.registry_reads import Drifted, RegistryReads
from immuproxy.edge.upstream import Upstream
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.model import Event
from immuproxy.ledger.register import Register
from immuproxy.rules.model import RuleSet
from immuproxy.store.redis import Store
from immuproxy.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the operator chooses about the edge.

    ``manifest_timeout``: seconds for one manifest request.  ``authorize_always``: ask the upstream about each push,
    even where it seems to ask nobody for credentials.  ``pass_unknown``: while Redis is down, reads of tags that this
    process knows nothing of go through.  ``exclusive``: nobody else writes to the upstream.  ``door`` is asked at each
    request, and so is ``trust``: for how many seconds the upstream need not be asked again who may pull.  ``service``:
    who the proxy is at the upstream where no client stands behind a request.
    """

    manifest_timeout: float = 30.0
    authorize_always: bool = False
    pass_unknown: bool = True
    exclusive: bool = False
    door: Callable[[], ClientAddressing] = ClientAddressing
    trust: Callable[[], float] = lambda: 60.0
    service: Caller = field(default_factory=anonymous_service)


def _nobody(_repository: str) -> None:
    pass


@dataclass(frozen=True, eq=False)
class Parts:
    """The edge over an open ledger and upstream, and its parts: each is made once, when it is first asked for.

    ``rules`` gives the rule set in force; ``account`` is the upstream as ``choices.service`` asks it, where that is
    another; ``published`` is told each repository that may have a new event; ``record`` searches what is recorded:
    without it that is walked by.  ``drifted`` hears what readers found instead of this process' own healer.
    """

    rules: Callable[[], RuleSet]
    store: Store
    upstream: Upstream
    metrics: Metrics
    choices: Choices
    account: Upstream | None = None
    published: Callable[[str], None] = _nobody
    record: Told | None = None
    drifted: Drifted | None = None

    @cached_property
    def edge(self) -> Edge:
        return Edge(
            rules=self.rules,
            upstream=self.upstream,
            blob_checks=self.blob_checks,
            manifest_puts=self.manifest_puts,
            reads=self.reads,
            deletes=self.deletes,
            metrics=self.metrics,
            door=self.choices.door,
            access_log=self.access_log,
        )

    @cached_property
    def limits(self) -> Limits:
        return Limits.of(self.choices.manifest_timeout)

    @cached_property
    def access_log(self) -> AccessLog:
        return AccessLog()

    @cached_property
    def epoch(self) -> Epoch:
        epoch = Epoch(self.store, quarantine=self.limits.quarantine)
        epoch.clock.jumped = self.metrics.clock_jumped
        return epoch

    @cached_property
    def register(self) -> Register:
        return Register(
            self.store,
            self.epoch,
            quarantine_ms=self.limits.quarantine_ms,
            published=self.published,
            recorded=self._recorded,
        )

    def _recorded(self, event: Event) -> None:
        self.metrics.event(event.action, event.outcome, shadow=event.shadow)
        self.access_log.recorded(event)

    @cached_property
    def exceptions(self) -> Exceptions:
        return Exceptions(self.store, self.published)

    @cached_property
    def witnesses(self) -> Witnesses:
        return Witnesses(self.store, self.record or Visitor(self.store, None))

    @cached_property
    def manifest_store(self) -> ManifestStore:
        return ManifestStore(self.register, self.upstream)

    @cached_property
    def blob_checks(self) -> BlobChecks:
        return BlobChecks(self.register, self.upstream)

    @cached_property
    def platforms(self) -> Platforms:
        return Platforms(self.upstream)

    @cached_property
    def recovery(self) -> Recovery:
        return Recovery(
            self.register,
            self.upstream,
            self.manifest_store,
            self.limits,
            adopted=self._adopted,
        )

    @cached_property
    def healer(self) -> Healer:
        return Healer(
            self.register,
            self.account or self.upstream,
            self.choices.service,
            self.limits,
            found=self.adoptions.foreign,
        )

    @cached_property
    def authority(self) -> Authority:
        return Authority(self.upstream, always=self.choices.authorize_always)

    @cached_property
    def evaluator(self) -> Evaluator:
        return Evaluator(self.rules, self.manifest_store, self.exceptions)

    @cached_property
    def late_children(self) -> LateChildren:
        return LateChildren(self.register, self.manifest_store)

    @cached_property
    def refusals(self) -> Refusals:
        return Refusals(self.register)

    @cached_property
    def carrier(self) -> Carrier:
        return Carrier(
            self.rules,
            self.register,
            self.upstream,
            late_children=self.late_children,
            limits=self.limits,
            platforms=self.platforms,
            cases=Cases(self.register, self.witnesses, self.limits),
        )

    @cached_property
    def guard(self) -> Guard:
        return Guard(
            register=self.register,
            epoch=self.epoch,
            upstream=self.upstream,
            manifest_store=self.manifest_store,
            late_children=self.late_children,
            carrier=self.carrier,
            blob_checks=self.blob_checks,
            evaluator=self.evaluator,
            recovery=self.recovery,
            refusals=self.refusals,
            cleanup=self.cleanup,
            limits=self.limits,
            platforms=self.platforms,
            adoptions=self.adoptions,
            drifted=self._report,
        )

    @cached_property
    def in_turn(self) -> InTurn:
        return InTurn(longest=self.limits.put)

    @cached_property
    def recorder(self) -> Recorder:
        return Recorder(
            self.register,
            self.upstream,
            self.evaluator,
            self.late_children,
            self.carrier,
            in_turn=self.in_turn,
            platforms=self.platforms,
        )

    @cached_property
    def cleanup(self) -> ClaimCleanup:
        return ClaimCleanup(self.register, lease=self.limits.lease)

    @cached_property
    def manifest_puts(self) -> ManifestPuts:
        return ManifestPuts(
            self.rules,
            self.authority,
            guard=self.guard,
            multi_tag=MultiTag(self.guard, self.cleanup),
            recorder=self.recorder,
            refusals=self.refusals,
            platforms=self.platforms,
        )

    @cached_property
    def reads(self) -> Reads:
        return Reads(
            self.register,
            self.upstream,
            self.recovery,
            self.registry_reads,
            self.pull_rights,
            manifests=ManifestMemory(self.register),
            known=Memory(time.monotonic, self.limits.quarantine),
            pass_unknown=self.choices.pass_unknown,
            metrics=self.metrics,
        )

    @cached_property
    def registry_reads(self) -> RegistryReads:
        return RegistryReads(
            self.register, self.upstream, self.manifest_store, self._report, pull_rights=self.pull_rights
        )

    @property
    def _report(self) -> Drifted:
        return self.drifted or self.healer.report

    @cached_property
    def pull_rights(self) -> PullRights:
        return PullRights(self.upstream, self.choices.trust)

    async def _adopted(self, repository: str, tag: str, digest: str) -> None:
        """Only when it is told: each of the two parts needs the other."""
        await self.adoptions.adopted(repository, tag, digest)

    @cached_property
    def adoptions(self) -> Adoptions:
        return Adoptions(
            self.rules,
            self.register,
            self.upstream,
            self.recovery,
            exclusive=self.choices.exclusive,
            told=self.metrics.foreign_write,
        )

    @cached_property
    def deletes(self) -> Deletes:
        return Deletes(
            self.rules,
            self.register,
            self.upstream,
            adoptions=self.adoptions,
            authority=self.authority,
            exceptions=self.exceptions,
            longest=3 * self.choices.manifest_timeout,
        )
