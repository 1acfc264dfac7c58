"""Every metric of the proxy, in one table; docs/metrics.md has the same in words."""

from __future__ import annotations

import platform
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Metric, ProcessCollector

from immuproxy.telemetry import labels

_SHORT = (0.0005, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
_LONG = (*_SHORT[1:], 100)


class _Registry(CollectorRegistry):
    """Leaves out the ``_created`` series: they double each counter and histogram, and say when the process started."""

    def collect(self) -> Iterable[Metric]:
        for metric in super().collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


class Metrics:
    """The metrics, in a registry of their own (no globals).

    Every series whose labels are known beforehand is there from the start, at zero: an alert on an increase misses the
    first one of a series that appears with it.
    """

    def __init__(self, version: str = "") -> None:
        """Make all of them, at zero; ``version`` is the proxy's own."""
        self.registry = registry = _Registry()
        ProcessCollector(registry=registry)
        build = Info("immuproxy_build", "What runs: its version, and that of Python.", registry=registry)
        build.info({"version": version, "python": platform.python_version()})
        self._requests = Counter(
            "immuproxy_requests", "Requests at the edge.", ["kind", "method", "status"], registry=registry
        )
        self._seconds = Histogram(
            "immuproxy_request_duration_seconds",
            "Time from the head of a request to the end of its answer.",
            ["kind"],
            buckets=_LONG,
            registry=registry,
        )
        self.in_flight = Gauge(
            "immuproxy_requests_in_flight", "Requests at the edge that are not answered yet.", registry=registry
        )
        self._events = Counter(
            "immuproxy_events", "Events recorded by this process.", ["action", "outcome"], registry=registry
        )
        self._shadow = Counter(
            "immuproxy_shadow_verdicts",
            "Requests that a rule in shadow mode would have refused, and did not.",
            ["action"],
            registry=registry,
        )
        self._compared = Counter(
            "immuproxy_compared_tags",
            "Tags that the sweep of this process compared with the upstream.",
            ["result"],
            registry=registry,
        )
        self.open_drift = Gauge(
            "immuproxy_open_drift",
            "Tags in the whole ledger whose drift has not been healed, as the last sweep of this process found it.",
            registry=registry,
        )
        self.outbox_lag = Gauge(
            "immuproxy_outbox_lag_seconds",
            "Age of the oldest event that the audit does not have for sure, as this process last saw; 0 without any.",
            registry=registry,
        )
        self._index_events = Gauge(
            "immuproxy_audit_index_events", "Events that the audit's index of this process holds.", registry=registry
        )
        self._index_lag = Gauge(
            "immuproxy_audit_index_lag_seconds",
            "Time from the newest event in the audit's index to the newest that is recorded; 0 where it follows.",
            registry=registry,
        )
        self._index_complete = Gauge(
            "immuproxy_audit_index_complete",
            "Whether all that is recorded can be searched in the audit's index (1) or not (0).",
            registry=registry,
        )
        self.rules_reloads = Counter(
            "immuproxy_rules_reloads", "Changes of the rules file that were seen.", ["result"], registry=registry
        )
        self.rules_differ = Gauge(
            "immuproxy_rules_differ",
            "Whether another proxy on the same Redis has other rules (1) or not (0).",
            registry=registry,
        )
        self.restart_needed = Gauge(
            "immuproxy_config_restart_needed",
            "Settings that were changed in the file and are in force only after a restart.",
            registry=registry,
        )
        self.up = Gauge(
            "immuproxy_up",
            "Whether a part that the proxy depends on answered when last asked (1) or not (0).",
            ["part"],
            registry=registry,
        )
        self._ready = Gauge(
            "immuproxy_ready",
            "Whether these requests could be served when the parts were last asked (1) or not (0).",
            ["requests"],
            registry=registry,
        )
        self._degraded = Gauge(
            "immuproxy_degraded", "Whether pulls could be served and not all else (1) or not (0).", registry=registry
        )
        self.redis_seconds = Histogram(
            "immuproxy_redis_command_duration_seconds",
            "Time from sending a command or script to Redis to its answer, without the wait for a connection.",
            buckets=_SHORT,
            registry=registry,
        )
        self._clock_jumps = Counter(
            "immuproxy_redis_clock_jumps",
            "Times that the clock of Redis went otherwise than that of this process.",
            ["direction"],
            registry=registry,
        )
        self._upstream_seconds = Histogram(
            "immuproxy_upstream_request_duration_seconds",
            "Time from sending a request to the upstream to the head of its answer, with the wait for a connection.",
            ["pool"],
            buckets=_LONG,
            registry=registry,
        )
        self._certificate_expiry = Gauge(
            "immuproxy_certificate_expiry_timestamp_seconds",
            "When the certificate of a listener with TLS ends, in seconds since 1970.",
            ["listener"],
            registry=registry,
        )
        self._prepare()

    def compared(self, result: str) -> None:
        """Count one tag that the sweep compared: ``agrees``, ``drifted`` or ``unanswered``."""
        self._compared.labels(result).inc()

    def clock_jumped(self, seconds: float) -> None:
        """Count a jump of the clock of Redis: ``ahead``, or ``back`` where it is below 0."""
        self._clock_jumps.labels("back" if seconds < 0 else "ahead").inc()

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
        self._requests.labels(kind, shown, str(status)).inc()
        self._seconds.labels(kind).observe(seconds)

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

    def _prepare(self) -> None:
        for metric, known in (
            (self._requests, labels.REQUESTS),
            (self._seconds, [(kind,) for kind in labels.KINDS]),
            (self._events, labels.EVENTS),
            (self._shadow, labels.SHADOW),
            (self._compared, labels.COMPARED),
            (self._clock_jumps, labels.CLOCK_JUMPS),
            (self.rules_reloads, labels.RELOADS),
            (self.up, labels.PARTS),
            (self._ready, labels.READY),
            (self._upstream_seconds, labels.POOLS),
        ):
            for values in known:
                metric.labels(*values)
