"""What a running `immuproxy serve` takes from changed files, and what it says of the rest."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis import Redis

from immuproxy.ledger.keys import REPLICAS
from tests.support.proxies import ProxyServer, make_proxy, running_proxy
from tests.support.servers import RedisServer, RegistryServer, running, wait_until

AUTHORITY = trustme.CA()


@pytest.fixture(scope="module")
def server(shared_registry: RegistryServer, shared_redis: RedisServer) -> Iterator[ProxyServer]:
    with running_proxy(shared_registry.url, {"url": shared_redis.url}) as started:
        yield started


@pytest.fixture
def proxy(server: ProxyServer) -> Iterator[ProxyServer]:
    """A proxy whose file may be changed; it is put back at the end."""
    before = server.config_path.read_text()
    yield server
    change(server, lambda _: before)


def change(proxy: ProxyServer, change_: Callable[[str], str]) -> None:
    """Rewrite the file and wait until it was read."""
    text = change_(proxy.config_path.read_text())
    proxy.config_path.write_text(text)
    digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    wait_until(lambda: rules_file(proxy)["digest"] == digest, "the file to be read")


def rules_file(proxy: ProxyServer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(read(f"{proxy.console_url}/api/v1/rules"))["file"]
    return found


def edge_with(**settings: Any) -> Callable[[str], str]:
    """A change of the section `edge`."""

    def rewrite(text: str) -> str:
        lines = text.splitlines()
        at = next(number for number, line in enumerate(lines) if line.startswith("edge: "))
        lines[at] = f"edge: {json.dumps(json.loads(lines[at].removeprefix('edge: ')) | settings)}"
        return "\n".join(lines)

    return rewrite


def read(url: str, context: ssl.SSLContext | None = None) -> str:
    with urllib.request.urlopen(url, timeout=5, context=context) as answer:
        text: str = answer.read().decode()
        return text


def metric(proxy: ProxyServer, name: str) -> float:
    lines = read(f"{proxy.console_url}/metrics").splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), -1.0)


def location(proxy: ProxyServer, **headers: str) -> str:
    """Where an upload begins, as the edge tells it."""
    asked = urllib.request.Request(f"{proxy.url}/v2/a/b/blobs/uploads/", method="POST", headers=headers)
    with urllib.request.urlopen(asked, timeout=5) as answer:
        return str(answer.headers["Location"])


def test_a_setting_that_needs_a_restart_is_told_everywhere(proxy: ProxyServer) -> None:
    assert metric(proxy, "immuproxy_config_restart_needed") == 0
    change(proxy, edge_with(listen="127.0.0.1:1"))
    (told,) = [json.loads(line) for line in proxy.log.splitlines() if "need a restart" in line]
    assert (told["level"], told["keys"]) == ("warning", ["edge.listen"])
    assert metric(proxy, "immuproxy_config_restart_needed") == 1
    assert rules_file(proxy)["restart_needed"] == ["edge.listen"]
    page = read(f"{proxy.console_url}/rules")
    assert "need a restart" in page
    assert "<code>edge.listen</code>" in page

    def reasons() -> list[str]:
        told = json.loads(read(f"{proxy.console_url}/api/v1/events?action=rules"))["events"]
        return [event["reason"] for event in told]

    wait_until(lambda: any("edge.listen" in reason for reason in reasons()), "the change to be in the audit")
    assert reasons()[0] == "immuproxy.yml changed; only after a restart: edge.listen"
    change(proxy, edge_with(listen=proxy.address))
    assert metric(proxy, "immuproxy_config_restart_needed") == 0
    assert "need a restart" not in read(f"{proxy.console_url}/rules")


def test_how_clients_reach_the_edge_changes_at_once(proxy: ProxyServer) -> None:
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "lb.example"}
    assert location(proxy, **forwarded).startswith(f"{proxy.url}/v2/")
    change(proxy, edge_with(trusted_proxies=["127.0.0.0/8"]))
    assert location(proxy, **forwarded).startswith("https://lb.example/v2/")
    change(proxy, edge_with(external_url="https://registry.example"))
    assert location(proxy).startswith("https://registry.example/v2/")
    assert metric(proxy, "immuproxy_config_restart_needed") == 0


def test_the_level_of_the_log_changes_at_once(proxy: ProxyServer) -> None:
    ask_edge(proxy)
    assert '"event": "request"' in proxy.log
    change(proxy, lambda text: f"{text}\nlog: {{level: error}}\n")
    before = len(proxy.log)
    ask_edge(proxy)
    assert len(proxy.log) == before


def ask_edge(proxy: ProxyServer) -> None:
    """One request; returns when the edge has ended the connection, and so has logged it."""
    with socket.create_connection(("127.0.0.1", proxy.edge_port), timeout=5) as line:
        line.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while line.recv(65_536):
            pass


def test_sighup_reads_the_files_again_and_kills_nobody(proxy: ProxyServer) -> None:
    assert proxy.process is not None
    change(proxy, lambda text: text.replace("immutable", "frozen"))
    assert "configuration loaded with other rules" in proxy.log
    proxy.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "asked to read all files again" in proxy.log, "the signal to be seen", seconds=0.9)
    assert proxy.is_ready


def test_two_proxies_that_differ_in_their_ports_have_the_same_rules(
    shared_registry: RegistryServer, redis_server: RedisServer
) -> None:
    """H57"""
    redis = {"url": redis_server.url}
    with running_proxy(shared_registry.url, redis) as one, running_proxy(shared_registry.url, redis) as other:
        wait_until(lambda: announced(redis_server) == 2, "both to be known")
        assert "has other rules" not in one.log + other.log
        assert metric(other, "immuproxy_rules_differ") == 0


def announced(redis: RedisServer) -> int:
    with Redis(port=redis.port) as client:
        return int(client.hlen(REPLICAS))


def issue(directory: Path, name: str) -> None:
    issued = AUTHORITY.issue_cert("127.0.0.1", common_name=name)
    issued.private_key_pem.write_to_path(directory / "key.pem")
    (directory / "cert.pem").write_bytes(issued.cert_chain_pems[0].bytes())


def common_name(port: int) -> str:
    trusted = ssl.create_default_context()
    AUTHORITY.configure_trust(trusted)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        trusted.wrap_socket(plain, server_hostname="127.0.0.1") as line,
    ):
        subject: Any = (line.getpeercert() or {})["subject"]
        return str(dict(part[0] for part in subject)["commonName"])


class _ByTls(ProxyServer):
    @property
    def is_ready(self) -> bool:
        return '"ready"' in self.log


def test_both_listeners_show_a_new_certificate_without_a_restart(
    shared_registry: RegistryServer, shared_redis: RedisServer, tmp_path: Path
) -> None:
    issue(tmp_path, "one")
    pair = {"cert": "cert.pem", "key": "key.pem"}
    more = {"edge": {"tls": pair}, "console": {"tls": pair}}

    def make(where: Path) -> ProxyServer:
        return _ByTls(**vars(make_proxy(where, shared_registry.url, {"url": shared_redis.url}, more=more)))

    with running(make, tmp_path) as proxy:
        ports = proxy.edge_port, proxy.console_port
        assert [common_name(port) for port in ports] == ["one", "one"]
        issue(tmp_path, "two")
        wait_until(lambda: [common_name(port) for port in ports] == ["two", "two"], "the new certificate")
        (tmp_path / "key.pem").write_text("none")
        wait_until(lambda: proxy.log.count("the new certificate is not in force") == 2, "the bad pair to be told")
        assert [common_name(port) for port in ports] == ["two", "two"]
