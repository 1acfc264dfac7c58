"""The image and the compose file, in a real engine.  The base images are made of Debian packages that are here."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.clients import CannotStart, Client, Docker, Refused, Skopeo, running_dockerd, skopeo
from tests.e2e.layouts import Layout, tar_with
from tests.e2e.rootfs import CERTIFICATES, missing_packages, rootfs
from tests.support.servers import free_port, program, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
PACKAGES = ["dash", "coreutils", "python3", "python3-venv", "redis-server", "docker-registry"]
REGISTRY_CONFIG = {
    "version": 0.1,
    "storage": {"filesystem": {"rootdirectory": "/var/lib/registry"}},
    "http": {"addr": ":5000"},
}


@contextlib.contextmanager
def firewall_put_back() -> Iterator[None]:
    """An engine with networks writes firewall rules; afterwards they are as they were."""
    saved = subprocess.run([program("iptables-save")], capture_output=True, check=True).stdout
    try:
        yield
    finally:
        subprocess.run([program("iptables-restore")], input=saved, check=True)


@pytest.fixture(scope="module")
def engine() -> Iterator[Docker]:
    """An engine that can run containers in networks of their own."""
    if absent := missing_packages(PACKAGES):
        pytest.skip(f"the base image needs the Debian packages {', '.join(absent)}")
    if Path("/var/run/docker.sock").exists():
        pytest.skip("a Docker engine runs here already; a second one would write over its firewall rules")
    with contextlib.ExitStack() as stack:
        try:
            if os.geteuid() == 0:
                stack.enter_context(firewall_put_back())
            docker, _engine = stack.enter_context(running_dockerd("--bridge=none"))
        except (CannotStart, subprocess.CalledProcessError) as reason:
            pytest.skip(f"no engine can run containers here: {reason}")
        docker.run("import", "--change", f"ENV PIP_CERT={CERTIFICATES}", "-", "base", stdin=rootfs(PACKAGES))
        try:
            docker.run("run", "--rm", "--network", "none", "base", "true")
        except Refused as reason:
            pytest.skip(f"the engine runs here, but cannot run a container: {reason}")
        yield docker


@pytest.fixture(scope="module")
def image(engine: Docker) -> str:
    """The image of immuproxy, built as the Dockerfile says."""
    engine.run("build", "--network", "host", "--build-arg", "BASE=base", "--tag", "immuproxy", str(ROOT))
    return "immuproxy"


def build_parts(docker: Docker) -> None:
    """Redis and the registry, with the paths and the ways to start that their usual images have."""
    config = json.dumps(REGISTRY_CONFIG).encode()
    start = '["docker-registry", "serve", "/etc/docker/registry/config.yml"]'
    parts = {
        "redis": b"FROM base\nWORKDIR /data\n",
        "registry": f"FROM base\nCOPY config.yml /etc/docker/registry/config.yml\nENTRYPOINT {start}\n".encode(),
    }
    for name, recipe in parts.items():
        context = tar_with({"Dockerfile": recipe, "config.yml": config})
        docker.run("build", "--quiet", "--tag", f"test-{name}", "-", stdin=context)


@dataclass(frozen=True)
class Composed:
    """All of docker-compose.yml, running."""

    compose: Client
    docker: Docker
    edge: str
    console: str

    def container(self, service: str) -> str:
        return self.compose.run("ps", "-q", service).strip()

    def health(self, service: str) -> str:
        form = "{{.State.Health.Status}}"
        return self.docker.run("inspect", "--format", form, self.container(service)).strip()

    def wait_until_healthy(self) -> None:
        wait_until(lambda: self.health("proxy") == "healthy", "the proxy's container to be healthy", 60)
        with urllib.request.urlopen(f"http://{self.console}/readyz?writes=1", timeout=10) as answer:
            assert answer.status == 200

    def outcomes(self, repository: str, number: int) -> list[str]:
        """Of all pushes, sorted, as the audit tells them once it tells of ``number``: it follows the answers."""
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: len(self._outcomes_now(repository)) >= number, "the audit", 10.0)
        return self._outcomes_now(repository)

    def _outcomes_now(self, repository: str) -> list[str]:
        address = f"http://{self.console}/api/v1/events?repository={repository}&action=push"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return sorted(event["outcome"] for event in json.load(answer)["events"] if event["outcome"] != "intent")


@pytest.fixture(scope="module")
def composed(engine: Docker, image: str) -> Iterator[Composed]:
    build_parts(engine)
    edge, console = free_port(), free_port()
    settings = {
        **engine.environment,
        "IMMUPROXY_IMAGE": image,
        "REDIS_IMAGE": "test-redis",
        "REGISTRY_IMAGE": "test-registry",
        "EDGE_PORT": str(edge),
        "CONSOLE_PORT": str(console),
    }
    file = str(ROOT / "deploy" / "docker-compose.yml")
    compose = Client([program("docker-compose"), "--project-name", "test", "--file", file], settings)
    try:
        compose.run("up", "--detach", "--no-build")
        all_of_it = Composed(compose, engine, f"127.0.0.1:{edge}", f"127.0.0.1:{console}")
        all_of_it.wait_until_healthy()
        yield all_of_it
    finally:
        sys.stdout.write(compose.run("logs", "--no-color", "--tail=50"))  # pytest shows it when a test failed
        compose.run("down", "--volumes", "--timeout", "10")


@pytest.fixture(scope="module")
def pushed(composed: Composed, tmp_path_factory: pytest.TempPathFactory) -> tuple[Skopeo, Layout, str]:
    """One image pushed as team/app:1.4.0, another one ready to be."""
    layout = Layout(tmp_path_factory.mktemp("images") / "layout")
    for text in ("first", "second"):
        layout.tag(text, layout.image(text))
    name = f"{composed.edge}/team/app:1.4.0"
    client = skopeo()
    client.push(layout.source("first"), name)
    return client, layout, name


def test_the_image_is_small_and_not_root(engine: Docker, image: str) -> None:
    layers = engine.run("history", "--human=false", "--format", "{{.Size}}\t{{.CreatedBy}}", image).splitlines()
    ours = sum(int(line.split("\t")[0]) for line in layers[:-1])  # the last one is the base
    assert ours < 120 * MIB
    assert engine.run("inspect", "--format", "{{.Config.User}}", image).strip() == "10001:10001"
    assert "immuproxy" in engine.run("run", "--rm", "--read-only", "--network", "none", image, "--version")


def test_a_second_push_is_refused_and_both_are_in_the_audit(
    composed: Composed, pushed: tuple[Skopeo, Layout, str]
) -> None:
    client, layout, name = pushed
    with pytest.raises(Refused, match="cannot be overwritten because the tag is immutable"):
        client.push(layout.source("second"), name)
    assert composed.outcomes("team/app", 2) == ["created", "refused"]


def test_only_the_proxy_can_be_reached(composed: Composed) -> None:
    published = {s: composed.docker.run("port", composed.container(s)).split() for s in ("proxy", "redis", "registry")}
    assert published["redis"] == published["registry"] == []
    assert composed.console in published["proxy"]


def test_the_proxy_can_write_nothing_but_its_scratch_space(composed: Composed) -> None:
    proxy = composed.container("proxy")
    assert composed.docker.run("exec", proxy, "id", "-u").strip() == "10001"
    with pytest.raises(Refused, match="Read-only file system"):
        composed.docker.run("exec", proxy, "touch", "/opt/immuproxy/x")


def test_the_commands_work_in_the_container_and_ask_for_a_name(composed: Composed) -> None:
    allow = ("exec", composed.container("proxy"), "immuproxy", "allow", "team/x:1.0", "--for", "1m", "--reason", "e2e")
    with pytest.raises(Refused, match="--as NAME"):
        composed.docker.run(*allow)
    assert "may be overwritten" in composed.docker.run(*allow, "--as", "anna")
    listed = composed.docker.run("exec", composed.container("proxy"), "immuproxy", "allow", "--list", "--json")
    assert json.loads(listed)["by"] == "anna"


def test_redis_keeps_everything_and_evicts_nothing(composed: Composed) -> None:
    redis = composed.container("redis")
    for key, value in {"appendonly": "yes", "maxmemory-policy": "noeviction"}.items():
        assert composed.docker.run("exec", redis, "redis-cli", "config", "get", key).split() == [key, value]


def test_a_tag_stays_what_it_is_over_new_containers(
    composed: Composed, pushed: tuple[Skopeo, Layout, str], unique_name: str
) -> None:
    client, layout, _name = pushed
    name = f"{composed.edge}/team/{unique_name}:2.0.0"
    client.push(layout.source("first"), name)
    composed.compose.run("down", "--timeout", "30")
    composed.compose.run("up", "--detach", "--no-build")
    composed.wait_until_healthy()
    with pytest.raises(Refused, match="cannot be overwritten"):
        client.push(layout.source("second"), name)
    assert composed.outcomes(f"team/{unique_name}", 2) == ["created", "refused"]
