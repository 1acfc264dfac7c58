"""Every metric of the proxy, in one table; docs/metrics.md has the same in words."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Metric, ProcessCollector

from immuproxy.telemetry import labels

_OF_PROCESSES: dict[str, Across] = {
    "process_virtual_memory_bytes": "sum",
    "process_resident_memory_bytes": "sum",
    "process_cpu_seconds": "sum",
    "process_start_time_seconds": "least",
    "process_open_fds": "most",  # as the limit is one of each process
    "process_max_fds": "least",
}
_SHORT = (0.0005, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
_LONG = (*_SHORT[1:], 100)


Across = Literal["sum", "least", "most", "office"]
"""What a proxy of several processes tells of a metric: that of all its processes together, or that of its office."""


class Registry(CollectorRegistry):
    """Leaves out the ``_created`` series: they double each counter and histogram, and say when the process started.

    ``across``: for each metric, by its name, how processes are put together.
    """

    def __init__(self) -> None:
        """Empty, but for what is to be told of ``process_*``."""
        super().__init__()
        self.across = dict(_OF_PROCESSES)

    def collect(self) -> Iterable[Metric]:
        for metric in super().collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


_M = TypeVar("_M", Counter, Gauge, Histogram)


@dataclass(frozen=True, slots=True)
class _Row(Generic[_M]):
    """One metric; ``labels`` are its labels' names, ``known`` the values of them that are known beforehand; ``across``
    says how several processes are put together.

    Every series of those is there from the start, at zero: an alert on an increase misses the first one of a series
    that appears with it.
    """

    kind: type[_M]
    name: str
    what: str
    labels: tuple[str, ...] = ()
    known: Iterable[tuple[str, ...]] = ()
    buckets: tuple[float, ...] = ()
    across: Across = "sum"

    def made(self, registry: Registry) -> _M:
        """The metric, in a registry."""
        registry.across[self.name] = self.across
        more: dict[str, Any] = {"buckets": self.buckets} if self.buckets else {}
        metric = self.kind(self.name, self.what, self.labels, registry=registry, **more)
        for values in self.known:
            metric.labels(*values)
        return metric


_REQUESTS = _Row(Counter, "immuproxy_requests", "Requests at the edge.", ("kind", "method", "status"), labels.REQUESTS)
_SECONDS = _Row(
    Histogram,
    "immuproxy_request_duration_seconds",
    "Time from the head of a request to the end of its answer.",
    ("kind",),
    [(kind,) for kind in labels.KINDS],
    buckets=_LONG,
)
_IN_FLIGHT = _Row(Gauge, "immuproxy_requests_in_flight", "Requests at the edge that are not answered yet.")
_READS = _Row(
    Counter,
    "immuproxy_manifest_reads",
    "Reads of manifests that protected tags need, by where the answer came from.",
    ("source",),
    labels.SOURCES,
)
_LOOKS = _Row(Counter, "immuproxy_ledger_looks", "Looks at the ledger that such reads share.")
_EVENTS = _Row(Counter, "immuproxy_events", "Events recorded by this process.", ("action", "outcome"), labels.EVENTS)
_SHADOW = _Row(
    Counter,
    "immuproxy_shadow_verdicts",
    "Requests that a rule in shadow mode would have refused, and did not.",
    ("action",),
    labels.SHADOW,
)
_COMPARED = _Row(
    Counter,
    "immuproxy_compared_tags",
    "Tags that the sweep of this process compared with the upstream.",
    ("result",),
    labels.COMPARED,
)
_OPEN_DRIFT = _Row(
    Gauge,
    "immuproxy_open_drift",
    "Tags in the whole ledger whose drift has not been healed, as the last sweep of this process found it.",
    across="office",
)
_OUTBOX_LAG = _Row(
    Gauge,
    "immuproxy_outbox_lag_seconds",
    "Age of the oldest event that the audit does not have for sure, as this process last saw; 0 without any.",
    across="office",
)
_INDEX_EVENTS = _Row(
    Gauge, "immuproxy_audit_index_events", "Events that the audit's index of this process holds.", across="office"
)
_INDEX_LAG = _Row(
    Gauge,
    "immuproxy_audit_index_lag_seconds",
    "Time from the newest event in the audit's index to the newest that is recorded; 0 where it follows.",
    across="office",
)
_INDEX_COMPLETE = _Row(
    Gauge,
    "immuproxy_audit_index_complete",
    "Whether all that is recorded can be searched in the audit's index (1) or not (0).",
    across="office",
)
_RULES_RELOADS = _Row(
    Counter,
    "immuproxy_rules_reloads",
    "Changes of the rules file that were seen.",
    ("result",),
    labels.RELOADS,
    across="most",
)
_RULES_DIFFER = _Row(
    Gauge,
    "immuproxy_rules_differ",
    "Whether another proxy on the same Redis has other rules (1) or not (0).",
    across="office",
)
_RESTART_NEEDED = _Row(
    Gauge,
    "immuproxy_config_restart_needed",
    "Settings that were changed in the file and are in force only after a restart.",
    across="office",
)
_UP = _Row(
    Gauge,
    "immuproxy_up",
    "Whether a part that the proxy depends on answered when last asked (1) or not (0).",
    ("part",),
    labels.PARTS,
    across="office",
)
_READY = _Row(
    Gauge,
    "immuproxy_ready",
    "Whether these requests could be served when the parts were last asked (1) or not (0).",
    ("requests",),
    labels.READY,
    across="office",
)
_DEGRADED = _Row(
    Gauge, "immuproxy_degraded", "Whether pulls could be served and not all else (1) or not (0).", across="office"
)
_REDIS_SECONDS = _Row(
    Histogram,
    "immuproxy_redis_command_duration_seconds",
    "Time from sending a command or script to Redis to its answer, without the wait for a connection.",
    buckets=_SHORT,
)
_CLOCK_JUMPS = _Row(
    Counter,
    "immuproxy_redis_clock_jumps",
    "Times that the clock of Redis went otherwise than that of this process.",
    ("direction",),
    labels.CLOCK_JUMPS,
    across="most",
)
_FOREIGN_WRITES = _Row(
    Counter,
    "immuproxy_foreign_writes",
    "Times that the registry showed what somebody else wrote, although upstream.exclusive says that nobody does.",
)
_UPSTREAM_SECONDS = _Row(
    Histogram,
    "immuproxy_upstream_request_duration_seconds",
    "Time from sending a request to the upstream to the head of its answer, with the wait for a connection.",
    ("pool",),
    labels.POOLS,
    buckets=_LONG,
)
_CERTIFICATE_EXPIRY = _Row(
    Gauge,
    "immuproxy_certificate_expiry_timestamp_seconds",
    "When the certificate of a listener with TLS ends, in seconds since 1970.",
    ("listener",),
    across="least",
)
_RESTARTS = _Row(
    Counter,
    "immuproxy_process_restarts",
    "Times that a process of this proxy ended by itself and was replaced.",
    ("process",),
    across="most",
)


class Metrics:
    """The metrics, in a registry of their own (no globals)."""

    def __init__(self, version: str = "") -> None:
        """Make all of them, at zero; ``version`` is the proxy's own."""
        self.registry = registry = Registry()
        ProcessCollector(registry=registry)
        build = Info("immuproxy_build", "What runs: its version, and that of Python.", registry=registry)
        build.info({"version": version, "python": platform.python_version()})
        self._requests = _REQUESTS.made(registry)
        self._seconds = _SECONDS.made(registry)
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.in_flight = _IN_FLIGHT.made(registry)
        self._reads = _READS.made(registry)
        self._looks = _LOOKS.made(registry)
        self._events = _EVENTS.made(registry)
        self._shadow = _SHADOW.made(registry)
        self._compared = _COMPARED.made(registry)
        self.open_drift = _OPEN_DRIFT.made(registry)
        self.outbox_lag = _OUTBOX_LAG.made(registry)
        self._index_events = _INDEX_EVENTS.made(registry)
        self._index_lag = _INDEX_LAG.made(registry)
        self._index_complete = _INDEX_COMPLETE.made(registry)
        self.rules_reloads = _RULES_RELOADS.made(registry)
        self.rules_differ = _RULES_DIFFER.made(registry)
        self.restart_needed = _RESTART_NEEDED.made(registry)
        self.up = _UP.made(registry)
        self._ready = _READY.made(registry)
        self._degraded = _DEGRADED.made(registry)
        self.redis_seconds = _REDIS_SECONDS.made(registry)
        self._clock_jumps = _CLOCK_JUMPS.made(registry)
        self._foreign_writes = _FOREIGN_WRITES.made(registry)
        self._upstream_seconds = _UPSTREAM_SECONDS.made(registry)
        self._certificate_expiry = _CERTIFICATE_EXPIRY.made(registry)
        self._restarts = _RESTARTS.made(registry)

    async def now(self) -> CollectorRegistry:
        """Those of this process."""
        return self.registry

    def restarted(self, process: str, times: int) -> None:
        """This process, by its name, stands in the place of one that ended, and was replaced before."""
        self._restarts.labels(process).inc(times)

    def compared(self, result: str) -> None:
        """Count one tag that the sweep compared: ``agrees``, ``drifted`` or ``unanswered``."""
        self._compared.labels(result).inc()

    def clock_jumped(self, seconds: float) -> None:
        """Count a jump of the clock of Redis: ``ahead``, or ``back`` where it is below 0."""
        self._clock_jumps.labels("back" if seconds < 0 else "ahead").inc()

    def foreign_write(self) -> None:
        """Count one that contradicts `upstream.exclusive`."""
        self._foreign_writes.inc()

    def certificate(self, listener: str, ends: float) -> None:
        """The certificate of ``edge`` or ``console`` ends then, in seconds since 1970."""
        self._certificate_expiry.labels(listener).set(ends)

    def event(self, action: str, outcome: str, *, shadow: bool = False) -> None:
        """Count one event; ``shadow``: a rule in shadow mode would have refused it."""
        self._events.labels(action, outcome).inc()
        if shadow:
            self._shadow.labels(action).inc()

    def request(self, kind: str, method: str, status: int, seconds: float) -> None:
        """Count one request; methods outside the specification count as ``other``."""
        shown = method if method in labels.METHODS else "other"
        series = self._series.get((kind, shown, status))
        if series is None:  # looking them up costs as much as all the rest
            series = self._requests.labels(kind, shown, str(status)), self._seconds.labels(kind)
            self._series[kind, shown, status] = series
        series[0].inc()
        series[1].observe(seconds)

    def manifest_read(self, source: str) -> None:
        """Count one read of what a protected tag needs: from ``memory`` or ``upstream``."""
        self._reads.labels(source).inc()

    def looked(self) -> None:
        """Count one look at the ledger for such reads."""
        self._looks.inc()

    def asked_upstream(self, pool: str, seconds: float) -> None:
        """Count one answer of the upstream: over ``data`` (streams) or ``control`` (manifests)."""
        self._upstream_seconds.labels(pool).observe(seconds)

    def indexed(self, events: int, lag: float, *, whole: bool) -> None:
        """How the audit's index stands; ``lag`` in seconds."""
        self._index_events.set(events)
        self._index_lag.set(lag)
        self._index_complete.set(whole)

    def ready(self, *, pulls: bool, pushes: bool, degraded: bool) -> None:
        """What can be served now."""
        self._ready.labels("pulls").set(pulls)
        self._ready.labels("pushes").set(pushes)
        self._degraded.set(degraded)
