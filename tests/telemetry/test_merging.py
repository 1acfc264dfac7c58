"""The metrics of several processes are told as those of one, and no counter falls when one of them is replaced."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from immuproxy.telemetry.merging import Snapshot, Totals, merged, snapshot
from immuproxy.telemetry.metrics import Metrics


@pytest.fixture
def file() -> Iterator[int]:
    descriptor = os.memfd_create("totals")
    yield descriptor
    os.close(descriptor)


def told(metrics: Metrics) -> Snapshot:
    found: Snapshot = json.loads(snapshot(metrics.registry))
    return found


def whole(own: Metrics, totals: Totals, office: str = "office#0", **edges: Metrics) -> CollectorRegistry:
    """What the office tells; edges are named `edge_1_0` for edge-1#0."""
    answers = {f"{name[:-2].replace('_', '-')}#{name[-1]}": told(metrics) for name, metrics in edges.items()}
    answers[office] = told(own)
    return merged(own.registry, list(answers.values()), totals.take(answers))


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return next(
        (
            sample.value
            for family in registry.collect()
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        ),
        None,
    )


def asked(registry: CollectorRegistry) -> float | None:
    return value(registry, "immuproxy_requests_total", kind="base", method="GET", status="200")


def edge(requests: int, status: int = 200) -> Metrics:
    metrics = Metrics("1")
    for _ in range(requests):
        metrics.request("base", "GET", status, 0.002)
    return metrics


def test_counters_and_histograms_are_added_up(file: int) -> None:
    found = whole(Metrics("1"), Totals(file), edge_1_0=edge(2), edge_2_0=edge(3))
    assert asked(found) == 5
    assert value(found, "immuproxy_request_duration_seconds_count", kind="base") == 5
    assert value(found, "immuproxy_request_duration_seconds_bucket", kind="base", le="0.003") == 5
    assert value(found, "immuproxy_request_duration_seconds_bucket", kind="base", le="0.001") == 0


def test_a_series_that_only_one_of_them_has_is_there(file: int) -> None:
    found = whole(Metrics("1"), Totals(file), edge_1_0=edge(0), edge_2_0=edge(3, status=418))
    assert value(found, "immuproxy_requests_total", kind="base", method="GET", status="418") == 3


def test_gauges_are_put_together_as_their_table_says(file: int) -> None:
    office, one, other = Metrics("1"), Metrics("1"), Metrics("1")
    office.up.labels("redis").set(1)
    office.open_drift.set(2)
    one.open_drift.set(7)  # it knows nothing of that
    one.in_flight.set(3)
    other.in_flight.set(4)
    one.certificate("edge", 200)
    other.certificate("edge", 100)  # it has not read the new one
    office.certificate("console", 300)
    other.restarted("edge-2", 5)
    found = whole(office, Totals(file), edge_1_0=one, edge_2_0=other)
    assert value(found, "immuproxy_up", part="redis") == 1
    assert value(found, "immuproxy_open_drift") == 2
    assert value(found, "immuproxy_requests_in_flight") == 7
    assert value(found, "immuproxy_certificate_expiry_timestamp_seconds", listener="edge") == 100
    assert value(found, "immuproxy_certificate_expiry_timestamp_seconds", listener="console") == 300
    assert value(found, "immuproxy_process_restarts_total", process="edge-2") == 5
    assert value(found, "immuproxy_build_info", version="1", python=platform.python_version()) == 1
    alone = value(office.registry, "process_resident_memory_bytes") or 0
    assert (value(found, "process_resident_memory_bytes") or 0) > 2.5 * alone


def test_h144_no_counter_falls_when_a_process_is_silent_or_replaced(file: int) -> None:
    office, totals = Metrics("1"), Totals(file)
    assert asked(whole(office, totals, edge_1_0=edge(2), edge_2_0=edge(3))) == 5
    assert asked(whole(office, totals, edge_1_0=edge(2))) == 5  # the other one does not answer
    assert asked(whole(office, totals, edge_1_0=edge(2), edge_2_1=edge(0))) == 5  # it was replaced
    assert asked(whole(office, totals, edge_1_0=edge(2), edge_2_1=edge(1))) == 6
    assert asked(whole(office, totals, edge_1_1=edge(1), edge_2_3=edge(1))) == 8
    assert asked(whole(Metrics("1"), Totals(file), "office#1", edge_1_1=edge(1), edge_2_3=edge(2))) == 9


def test_h144_what_the_office_itself_has_counted_outlives_it(file: int) -> None:
    office = Metrics("1")
    office.compared("agrees")
    assert value(whole(office, Totals(file)), "immuproxy_compared_tags_total", result="agrees") == 1
    after = whole(Metrics("1"), Totals(file), "office#1")
    assert value(after, "immuproxy_compared_tags_total", result="agrees") == 1


def test_a_gauge_of_one_that_does_not_answer_does_not_count(file: int) -> None:
    office, totals, one = Metrics("1"), Totals(file), Metrics("1")
    one.in_flight.set(3)
    assert value(whole(office, totals, edge_1_0=one), "immuproxy_requests_in_flight") == 3
    assert value(whole(office, totals), "immuproxy_requests_in_flight") == 0


def test_it_can_be_written_in_both_forms(file: int) -> None:
    found = whole(Metrics("1"), Totals(file), edge_1_0=edge(2), edge_2_0=edge(3, status=418))
    assert b"immuproxy_requests_total" in generate_latest(found)
    encode, _ = choose_encoder("application/openmetrics-text; version=1.0.0")
    read, alone = [_names(encode(registry)) for registry in (found, Metrics("1").registry)]
    assert read == alone


def _names(openmetrics: bytes) -> list[str]:
    families = text_string_to_metric_families(openmetrics.decode())  # type: ignore[no-untyped-call]  # has no types
    return [family.name for family in families]
