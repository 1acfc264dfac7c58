"""Start a private docker-registry and immuproxy in front of it, in the foreground.  `make run` calls this.

Everything is kept in .immuproxy: the configuration (written once, yours to change), the registry's storage, the
embedded Redis and the logs.  Ctrl-C stops all of it; the next start finds every tag and every event again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import yaml

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".immuproxy"
CONFIG = HOME / "immuproxy.yml"
EXAMPLE = ROOT / "deploy" / "local" / "immuproxy.yml"
START_SECONDS = 60
STOP_SECONDS = 90  # pushes under way are finished first


class CannotRun(Exception):
    """The message is for the person; there is nothing to trace."""


Address = tuple[str, int]


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(options.edge, options.console)
    except CannotRun as reason:
        print(f"make run: {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; `make run` finds everything again")
        return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--edge", type=address, metavar="HOST:PORT", help="where clients push to")
    parser.add_argument("--console", type=address, metavar="HOST:PORT", help="where the web page is")
    return parser.parse_args()


def run(edge: Address | None, console: Address | None) -> int:
    """Run until Ctrl-C, or until a part of it ends by itself; the exit status to give."""
    (HOME / "registry").mkdir(parents=True, exist_ok=True)
    config = read_config()
    edge = listener(config, "edge", edge)
    console = listener(config, "console", console)
    upstream = upstream_address(config)
    CONFIG.write_text(config.text)
    immuproxy = [sys.executable, "-m", "immuproxy", "serve", "--config", str(CONFIG)]
    with (
        child(registry_command(upstream), HOME / "registry.log") as registry,
        child(immuproxy, None) as proxy,
    ):
        wait_until_ready(console, registry, proxy)
        print(greeting(edge, console), flush=True)
        return wait_for_an_end(registry, proxy)


# --- the configuration -----------------------------------------------------------------------------------------


class Config:
    """The text of the configuration, of which single values are replaced in place: comments and order stay."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._mapping()

    def get(self, part: str, key: str) -> str | None:
        node = self._value(part, key)
        return node.value if isinstance(node, yaml.ScalarNode) else None

    def set(self, part: str, key: str, value: str) -> None:
        """Replace a value that is there.

        :raises CannotRun: when it is not.
        """
        node = self._value(part, key)
        if node is None:
            raise CannotRun(f"{CONFIG} has no {part}.{key} to replace by {value}")
        before, after = self.text[: node.start_mark.index], self.text[node.end_mark.index :]
        self.text = f"{before}{json.dumps(value)}{after}"

    def _value(self, *path: str) -> yaml.Node | None:
        node: yaml.Node | None = self._mapping()
        for key in path:
            if not isinstance(node, yaml.MappingNode):
                return None
            node = {name.value: value for name, value in node.value}.get(key)
        return node

    def _mapping(self) -> yaml.MappingNode:
        try:
            node = yaml.compose(self.text, yaml.SafeLoader)
        except yaml.YAMLError as error:
            raise CannotRun(f"{CONFIG} cannot be read: {error}") from error
        if not isinstance(node, yaml.MappingNode):
            raise CannotRun(f"{CONFIG} is not a YAML mapping; delete it to get the example again")
        return node


def read_config() -> Config:
    """The configuration in force; a copy of the example where there is none yet."""
    if not CONFIG.exists():
        shutil.copyfile(EXAMPLE, CONFIG)
        print(f"make run: wrote {CONFIG.relative_to(ROOT)}; change the rules there, while it runs")
    return Config(CONFIG.read_text())


def listener(config: Config, part: str, wanted: Address | None) -> Address:
    """Where a part listens: as wanted, else as configured.  Written into the configuration."""
    if wanted:
        config.set(part, "listen", "{}:{}".format(*wanted))
    chosen = wanted or _configured(config, part, "listen")
    if is_taken(chosen):
        raise CannotRun(
            "{}:{} is taken by another program. ".format(*chosen)
            + f"Stop that, or choose another address: make run {part.upper()}=127.0.0.1:{free_port()}"
        )
    return chosen


def upstream_address(config: Config) -> Address:
    """Where the private registry listens: as the last time, unless that port is taken by now."""
    chosen = _configured(config, "upstream", "url")
    if is_taken(chosen):
        chosen = ("127.0.0.1", free_port())
        config.set("upstream", "url", "http://{}:{}".format(*chosen))
    return chosen


def _configured(config: Config, part: str, key: str) -> Address:
    try:
        return address(config.get(part, key) or "")
    except argparse.ArgumentTypeError as error:
        raise CannotRun(f"{CONFIG} has no usable {part}.{key} (host:port)") from error


def address(text: str) -> Address:
    """`host:port` or a URL of that; a port alone means 127.0.0.1."""
    try:
        parts = urlsplit(text if "//" in text else f"//{text if ':' in text else f'127.0.0.1:{text}'}")
        if parts.port:
            return parts.hostname or "127.0.0.1", parts.port
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")


def is_taken(where: Address) -> bool:
    """Whether we could not listen there, or somebody answers there (who may listen on all addresses)."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        if probe.connect_ex(where) == 0:
            return True
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except OSError:
            return True
    return False


def free_port() -> int:
    while True:
        port = 15_000 + secrets.randbelow(17_000)  # below the range of outgoing connections
        if not is_taken(("127.0.0.1", port)):
            return port


# --- the processes ---------------------------------------------------------------------------------------------


def registry_command(where: Address) -> list[str]:
    """Configure docker-registry, and say how to start it."""
    program = shutil.which("docker-registry")
    if not program:
        raise CannotRun("docker-registry is not installed; tools/setup run installs it")
    settings = {
        "version": 0.1,
        "log": {"level": "info"},
        "storage": {
            "filesystem": {"rootdirectory": str(HOME / "registry")},
            "delete": {"enabled": True},
        },
        "http": {"addr": "{}:{}".format(*where), "secret": secrets.token_hex(), "relativeurls": True},
    }
    (HOME / "registry.yml").write_text(json.dumps(settings, indent=2))  # JSON is YAML
    return [program, "serve", str(HOME / "registry.yml")]


@contextlib.contextmanager
def child(command: Sequence[str], log: Path | None) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, so that Ctrl-C reaches only us; it ends when we do, however we end."""
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("ab")) if log else None
        clean = {key: value for key, value in os.environ.items() if not key.startswith("REGISTRY_")}
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env=clean,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End it in order; a second Ctrl-C, or 90 s, kills it."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()


def wait_until_ready(console: Address, registry: subprocess.Popen[bytes], proxy: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_ready(console):
        check_alive(registry, proxy)
        if time.monotonic() > deadline:
            raise CannotRun(f"immuproxy was not ready after {START_SECONDS} s; what it said stands above")
        time.sleep(0.05)


def check_alive(registry: subprocess.Popen[bytes], proxy: subprocess.Popen[bytes]) -> None:
    if registry.poll() is not None:
        log = (HOME / "registry.log").read_text(errors="replace")[-1000:]
        raise CannotRun(f"docker-registry ended with status {registry.returncode}:\n{log}")
    if proxy.poll() is not None:
        raise CannotRun(f"immuproxy ended with status {proxy.returncode}; what it said stands above")


def is_ready(console: Address) -> bool:
    try:
        with urllib.request.urlopen("http://{}:{}/readyz?writes=1".format(*_reachable(console)), timeout=2) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except (OSError, urllib.error.URLError):
        return False


def wait_for_an_end(registry: subprocess.Popen[bytes], proxy: subprocess.Popen[bytes]) -> int:
    while True:
        check_alive(registry, proxy)
        time.sleep(0.2)


# --- what the person reads -------------------------------------------------------------------------------------


def _reachable(where: Address) -> Address:
    return ("127.0.0.1" if where[0] in {"0.0.0.0", "::", ""} else where[0], where[1])


def greeting(edge: Address, console: Address) -> str:
    """Both addresses and three commands, for the client that is here."""
    edge_text = "{}:{}".format(*_reachable(edge))
    first, second = push_commands(f"{edge_text}/team/app:1.4.0")
    return f"""
  immuproxy is ready

    push to     {edge_text}
    look at     http://{"{}:{}".format(*_reachable(console))}/
    rules       {CONFIG.relative_to(ROOT)}

  Three commands to try, in another terminal:

    {first}
    {second}      # refused: another image under the same tag
    .venv/bin/immuproxy explain --config {CONFIG.relative_to(ROOT)} team/app:1.4.0

  Ctrl-C stops everything; tags and events are kept.
"""


def push_commands(image: str) -> tuple[str, str]:
    """Two commands that push different images under one name: with docker or podman, else without any client."""
    for client, push in (("docker", "docker push"), ("podman", "podman push --tls-verify=false")):
        if can_build(client):
            build = f"printf 'FROM scratch\\nLABEL build=%s\\n' {{}} | {client} build -q -t {image} - && {push} {image}"
            return build.format(1), build.format(2)
    return f"tools/push.py {image} one", f"tools/push.py {image} two"


def can_build(client: str) -> bool:
    """Whether the client is installed and its engine answers."""
    if not shutil.which(client):
        return False
    try:
        return subprocess.run([client, "info"], capture_output=True, timeout=5, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


if __name__ == "__main__":
    sys.exit(main())
