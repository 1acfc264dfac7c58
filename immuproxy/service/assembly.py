"""How the parts of the edge are put together; decides nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from immuproxy.allow.exceptions import Exceptions
from immuproxy.audit import Visitor
from immuproxy.audit.testimony import Told, Witnesses
from immuproxy.drift.healer import Healer
from immuproxy.drift.service import anonymous_service
from immuproxy.edge.access_log import AccessLog
from immuproxy.edge.authority import Authority
from immuproxy.edge.caller import Caller
from immuproxy.edge.cases import Cases
from immuproxy.edge.deletes import Deletes
from immuproxy.edge.handler import ClientAddressing, Edge
from immuproxy.edge.memory import Memory
from immuproxy.edge.push.attempt import Limits
from immuproxy.edge.push.blob_check import BlobChecks
from immuproxy.edge.push.carrier import Carrier
from immuproxy.edge.push.evaluate import Evaluator
from immuproxy.edge.push.guard import Guard
from immuproxy.edge.push.in_turn import InTurn
from immuproxy.edge.push.late_children import LateChildren
from immuproxy.edge.push.model import ManifestStore
from immuproxy.edge.push.platforms import Platforms
from immuproxy.edge.push.put_manifest import ManifestPuts
from immuproxy.edge.push.recorded import Recorder
from immuproxy.edge.reads import Reads
from immuproxy.edge.recovery import Recovery
from immuproxy.edge.refusals import Refusals
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
    process knows nothing of go through.  ``door`` is asked at each request.  ``service``: who the proxy is at the
    upstream where no client stands behind a request.
    """

    manifest_timeout: float = 30.0
    authorize_always: bool = False
    pass_unknown: bool = True
    door: Callable[[], ClientAddressing] = ClientAddressing
    service: Caller = field(default_factory=anonymous_service)


def _nobody(_repository: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that the composition root needs again."""

    edge: Edge
    pushes: ManifestPuts
    in_turn: InTurn
    platforms: Platforms
    register: Register
    epoch: Epoch
    exceptions: Exceptions
    recovery: Recovery
    healer: Healer
    limits: Limits
    witnesses: Witnesses


def assemble(
    rules: Callable[[], RuleSet],
    store: Store,
    upstream: Upstream,
    metrics: Metrics,
    choices: Choices,
    *,
    account: Upstream | None = None,
    published: Callable[[str], None] = _nobody,
    record: Told | None = None,
) -> Parts:
    """The edge, over an open ledger and upstream.

    ``rules`` gives the rule set in force; ``account`` is the upstream as ``choices.service`` asks it, where that is
    another; ``published`` is told each repository that may have a new event; ``record`` searches what is recorded:
    without it that is walked by.
    """
    limits = Limits.of(choices.manifest_timeout)
    epoch = Epoch(store, quarantine=limits.quarantine)
    epoch.clock.jumped = metrics.clock_jumped
    access_log = AccessLog()

    def recorded(event: Event) -> None:
        metrics.event(event.action, event.outcome, shadow=event.shadow)
        access_log.recorded(event)

    register = Register(store, epoch, quarantine_ms=limits.quarantine_ms, published=published, recorded=recorded)
    library = ManifestStore(register, upstream)
    looks = BlobChecks(register, upstream)
    exceptions = Exceptions(store, published)
    judge = Evaluator(rules, library, exceptions)
    late_children = LateChildren(register, library)
    platforms = Platforms(upstream)
    witnesses = Witnesses(store, record or Visitor(store, None))
    carrier = Carrier(
        rules,
        register,
        upstream,
        late_children=late_children,
        limits=limits,
        platforms=platforms,
        cases=Cases(register, witnesses, limits),
    )
    recovery = Recovery(register, upstream, library, limits)
    refusals = Refusals(register)
    guard = Guard(
        register=register,
        epoch=epoch,
        upstream=upstream,
        library=library,
        late_children=late_children,
        carrier=carrier,
        looks=looks,
        judge=judge,
        recovery=recovery,
        refusals=refusals,
        limits=limits,
        platforms=platforms,
    )
    in_turn = InTurn(longest=limits.put)
    authority = Authority(upstream, always=choices.authorize_always)
    pushes = ManifestPuts(
        rules,
        authority,
        guard,
        Recorder(register, upstream, judge, late_children, carrier, in_turn=in_turn, platforms=platforms),
        refusals,
        platforms=platforms,
    )
    healer = Healer(register, account or upstream, choices.service, limits)
    edge = Edge(
        rules=rules,
        upstream=upstream,
        looks=looks,
        pushes=pushes,
        reads=Reads(
            register,
            upstream,
            library,
            recovery,
            healer.report,
            memory=Memory(time.monotonic, limits.quarantine),
            pass_unknown=choices.pass_unknown,
        ),
        deletes=Deletes(
            rules,
            register,
            upstream,
            recovery=recovery,
            authority=authority,
            exceptions=exceptions,
            longest=3 * choices.manifest_timeout,
        ),
        metrics=metrics,
        door=choices.door,
        access_log=access_log,
    )
    return Parts(edge, pushes, in_turn, platforms, register, epoch, exceptions, recovery, healer, limits, witnesses)
