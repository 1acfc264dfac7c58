"""What `/metrics` tells: complete from the start, readable by Prometheus, and moving with what happens."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from prometheus_client import parser
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from immuproxy import __version__
from immuproxy.ledger.model import Action, Outcome
from immuproxy.oci.routes import METHODS
from immuproxy.telemetry import labels
from immuproxy.telemetry.metrics import Metrics
from tests.support.conversation import RULES, edge_over, image
from tests.support.proxies import ProxyServer, running_proxy
from tests.support.servers import RedisServer, RegistryServer, wait_until
from tests.support.wire import Exchange, scripted

DOCS = Path(__file__).parents[2] / "docs/metrics.md"
SHADOW = "default: immutable\nrules: [{name: tried, tags: [trial], policy: immutable, mode: shadow}]"


@pytest.fixture(scope="module")
def proxy(shared_registry: RegistryServer, shared_redis: RedisServer) -> Iterator[ProxyServer]:
    with running_proxy(shared_registry.url, {"url": shared_redis.url}, rules=SHADOW) as running:
        yield running


def scraped(proxy: ProxyServer, accept: str = "text/plain") -> str:
    asked = urllib.request.Request(f"{proxy.console_url}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(asked, timeout=5) as answer:
        return str(answer.read().decode())


def values(families: Iterable[Metric]) -> dict[str, float]:
    """Each series as it is written, with its value."""
    return {
        sample.name + "".join(f" {key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_it_is_read_by_the_parsers_of_prometheus_and_nothing_is_told_twice(proxy: ProxyServer, accept: str) -> None:
    text = scraped(proxy, accept)
    read = text_string_to_metric_families if "openmetrics" in accept else parser.text_string_to_metric_families
    series = [(sample.name, *sorted(sample.labels.items())) for family in read(text) for sample in family.samples]
    assert len(series) == len(set(series)) > 300
    assert "_created" not in text


def test_the_process_and_what_was_built_are_told(proxy: ProxyServer) -> None:
    found = values(parser.text_string_to_metric_families(scraped(proxy)))
    assert found["process_resident_memory_bytes"] > 1_000_000
    assert found["process_open_fds"] > 5
    assert found["process_start_time_seconds"] > 1_600_000_000
    assert any(name.startswith("immuproxy_build_info ") and f"version={__version__}" in name for name in found)
    assert found["immuproxy_ready requests=pulls"] == found["immuproxy_ready requests=pushes"] == 1
    assert found["immuproxy_degraded"] == 0
    assert found["immuproxy_redis_command_duration_seconds_count"] > 0
    assert found["immuproxy_upstream_request_duration_seconds_count pool=data"] > 0


def test_how_the_index_of_the_audit_stands_is_told(proxy: ProxyServer) -> None:
    def found() -> dict[str, float]:
        return values(parser.text_string_to_metric_families(scraped(proxy)))

    wait_until(lambda: found()["immuproxy_audit_index_complete"] == 1, "the index to be complete")
    assert found()["immuproxy_audit_index_lag_seconds"] == 0
    assert "immuproxy_audit_index_events" in found()


def test_all_that_is_known_beforehand_is_there_from_the_start() -> None:
    found = values(Metrics("1").registry.collect())
    for expected in (
        "immuproxy_requests_total kind=manifest method=PUT status=409",
        "immuproxy_request_duration_seconds_count kind=blob",
        "immuproxy_events_total action=push outcome=refused",
        "immuproxy_events_total action=drift outcome=found",
        "immuproxy_shadow_verdicts_total action=push",
        "immuproxy_compared_tags_total result=unanswered",
        "immuproxy_rules_reloads_total result=rejected",
        "immuproxy_up part=redis",
        "immuproxy_upstream_request_duration_seconds_count pool=control",
        "immuproxy_requests_in_flight",
        "immuproxy_outbox_lag_seconds",
    ):
        assert found[expected] == 0, expected


def test_the_label_values_are_those_of_the_rooms_that_own_them() -> None:
    methods = {kind: {method for known, method, _ in labels.REQUESTS if known == kind} for kind in labels.KINDS}
    assert methods == {kind.value: set(allowed) for kind, allowed in METHODS.items()} | {"none": set(labels.METHODS)}
    assert {action for action, _ in labels.EVENTS} == {action.value for action in Action}
    assert {outcome for _, outcome in labels.EVENTS} == {outcome.value for outcome in Outcome}


def test_every_metric_stands_in_the_documentation_and_no_other() -> None:
    metrics = Metrics("1")
    metrics.certificate("edge", 1)
    told = {family.name + ("_total" if family.type == "counter" else "") for family in metrics.registry.collect()}
    named = {name for name in told if name.startswith("immuproxy_")} - {"immuproxy_build"} | {"immuproxy_build_info"}
    assert set(re.findall(r"^\| `(immuproxy_\w+)", DOCS.read_text(), re.MULTILINE)) == named


async def test_a_verdict_in_shadow_mode_is_counted(registry: RegistryServer, redis_server: RedisServer) -> None:
    async with edge_over(registry.url, redis_server.url, rules=SHADOW) as edge:
        for seed in ("one", "two"):
            assert (await edge.client.push("team/app", "trial", image(seed))).status == 201
        found = await asyncio.to_thread(lambda: values(edge.metrics.registry.collect()))
    assert found["immuproxy_shadow_verdicts_total action=push"] == 1
    assert found["immuproxy_events_total action=push outcome=overwritten"] == 1


async def test_a_request_counts_as_in_flight_until_it_is_answered(shared_redis: RedisServer) -> None:
    asked, over = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        asked.set()
        await over.wait()
        await exchange.answer(200)

    async with scripted(script) as upstream, edge_over(upstream.url, shared_redis.url, rules=RULES) as edge:
        in_flight = edge.metrics.in_flight.collect
        pull = asyncio.create_task(edge.client.pull("team/app", "latest"))
        await asked.wait()
        assert next(iter(in_flight())).samples[0].value == 1
        over.set()
        assert (await pull).status == 200
        async with asyncio.timeout(1):
            while next(iter(in_flight())).samples[0].value:
                await asyncio.sleep(0)
