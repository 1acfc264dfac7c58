"""Which settings take effect at once, and which are told to need a restart."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from immuproxy.edge.settings import Timeouts
from immuproxy.edge.tokens import AccountUpstream
from immuproxy.edge.upstream import opened
from immuproxy.service.config import Config
from immuproxy.service.live_settings import LIVE, LiveSettings, changed, flat
from immuproxy.telemetry.metrics import Metrics
from tests.service.test_config import MINIMAL, config_of

TLS = "edge: {tls: {cert: c, key: k}}\n"
AUTH = "console: {auth: {users_file: u, administrators: [anna]}}\n"


@pytest.mark.parametrize(
    ("before", "after", "keys"),
    [
        ("", "", []),
        ("", "default: frozen\n", []),
        ("", "edge: {trusted_proxies: [10.0.0.0/8], external_url: 'https://a'}\n", []),
        ("", "upstream: {url: 'http://registry:5000', timeouts: {connect: 1s, idle: 1m}}\n", []),
        ("", "upstream: {url: 'http://registry:5000', trust: 0s}\n", []),
        ("", "upstream: {url: 'http://registry:5000', timeouts: {manifest: 1s}}\n", ["upstream.timeouts.manifest"]),
        ("", "upstream: {url: 'http://other:5000'}\n", ["upstream.url"]),
        ("", "redis: {url: 'redis://other:6379/0', wait: {replicas: 1}}\n", ["redis.url", "redis.wait.replicas"]),
        ("", "redis: {embedded: data}\n", ["audit.index", "redis.embedded", "redis.url"]),
        ("", TLS, ["edge.tls"]),
        (TLS, "", ["edge.tls"]),
        (TLS, TLS.replace("c,", "d,"), []),
        ("", AUTH, ["console.auth"]),
        (AUTH, AUTH.replace("anna", "bob"), ["console.auth.administrators"]),
    ],
)
def test_what_needs_a_restart_is_told_by_its_key(before: str, after: str, keys: list[str]) -> None:
    settings = LiveSettings(whole(before), Metrics())
    assert list(settings.take(whole(after))) == keys
    assert settings.take(whole(before)) == ()


def whole(text: str) -> Config:
    lines = [line for line in MINIMAL.splitlines(keepends=True) if line.split(":")[0] not in text]
    return config_of("".join(lines) + text)


def test_it_is_said_once_for_the_same_keys() -> None:
    settings = LiveSettings(whole(""), Metrics())
    with capture_logs() as logs:
        for text in (TLS, f"{TLS}default: frozen\n", f"{TLS}redis: {{embedded: data}}\n"):
            settings.take(whole(text))
    assert [entry["keys"] for entry in logs] == [
        ("edge.tls",),
        ("audit.index", "edge.tls", "redis.embedded", "redis.url"),
    ]


def test_every_live_key_is_a_setting() -> None:
    known = flat(whole(TLS)).keys() | flat(whole(TLS.replace("edge", "console"))).keys()
    assert known >= LIVE


def test_a_value_that_is_a_section_elsewhere_is_told_by_its_own_name() -> None:
    assert changed({"a": None, "b": 1}, {"a.x.y": 1, "a.z": 2, "b": 2}) == {"a", "b"}


def test_trust_counts_at_once() -> None:
    settings = LiveSettings(whole(""), Metrics())
    assert settings.trust == 60.0
    settings.take(whole("upstream: {url: 'http://registry:5000', trust: 0s}\n"))
    assert settings.trust == 0.0


def test_each_version_is_handed_on() -> None:
    settings = LiveSettings(whole(""), Metrics())
    heard: list[Config] = []
    settings.used_by(heard.append)
    for text in (TLS, ""):
        settings.take(whole(text))
    assert [bool(version.edge.tls) for version in heard] == [True, False]


async def test_limits_of_requests_to_the_upstream_change_but_not_what_leases_follow_from() -> None:
    async with opened(
        "http://registry:5000", timeouts=Timeouts.model_construct(connect=1, manifest=2, idle=3)
    ) as upstream:
        account = AccountUpstream(upstream, None, None)
        upstream.use(Timeouts.model_construct(connect=10, manifest=20, idle=30))
        for one in (upstream, account):
            assert (one.stream_limits.sock_connect, one.stream_limits.sock_read) == (10, 30)
            assert (one.whole_limits.sock_connect, one.whole_limits.total) == (10, 2)
