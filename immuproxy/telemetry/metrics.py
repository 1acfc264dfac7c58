"""Every metric of the proxy, in one table."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """The metrics, in a registry of their own (no globals)."""

    def __init__(self) -> None:
        """Make all of them, at zero."""
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "immuproxy_requests",
            "Requests at the edge.",
            ["kind", "method", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "immuproxy_request_duration_seconds",
            "Time from the head of a request to the end of its answer.",
            ["kind"],
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
            registry=self.registry,
        )
        self._events = Counter(
            "immuproxy_events",
            "Events recorded by this process.",
            ["action", "outcome"],
            registry=self.registry,
        )
        self._compared = Counter(
            "immuproxy_compared_tags",
            "Tags that the sweep of this process compared with the upstream.",
            ["result"],
            registry=self.registry,
        )
        self.open_drift = Gauge(
            "immuproxy_open_drift",
            "Tags in the whole ledger whose drift has not been healed, as the last sweep of this process found it.",
            registry=self.registry,
        )
        self.rules_reloads = Counter(
            "immuproxy_rules_reloads",
            "Changes of the rules file that were seen.",
            ["result"],
            registry=self.registry,
        )
        self.rules_differ = Gauge(
            "immuproxy_rules_differ",
            "Whether another proxy on the same Redis has another rules file (1) or not (0).",
            registry=self.registry,
        )
        self.up = Gauge(
            "immuproxy_up",
            "Whether a part that the proxy depends on answered when last asked (1) or not (0).",
            ["part"],
            registry=self.registry,
        )

    def compared(self, result: str) -> None:
        """Count one tag that the sweep compared: ``agrees``, ``drifted`` or ``unanswered``."""
        self._compared.labels(result).inc()

    def event(self, action: str, outcome: str) -> None:
        """Count one event."""
        self._events.labels(action, outcome).inc()

    def request(self, kind: str, method: str, status: int, seconds: float) -> None:
        """Count one request; methods outside the specification count as ``other``."""
        shown = method if method in _METHODS else "other"
        self._requests.labels(kind, shown, str(status)).inc()
        self._seconds.labels(kind).observe(seconds)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
