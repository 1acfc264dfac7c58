"""Real servers for tests, benchmarks and soaks: docker-registry and redis-server on free loopback ports.

Everything here works outside of pytest too::

    with running_registry() as registry, running_redis() as redis:
        print(registry.url, redis.url)

A server dies with the process that started it, however that ends (parent-death signal).  The kernel ties that to
the *thread* that started it: start servers from the main thread, or from one that outlives them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import bcrypt
import trustme

from tests.support.tokens import TokenIssuer

_DEBIAN_PACKAGE = {
    "docker-registry": "docker-registry",
    "redis-server": "redis-server",
    "nginx": "nginx",
    "skopeo": "skopeo",
    "podman": "podman",
    "dockerd": "docker.io",
    "docker": "docker.io",
    "chromium-headless-shell": "chromium-headless-shell",
}
_START_SECONDS = 20.0
_STOP_SECONDS = 10.0
_S = TypeVar("_S", bound="Server")


class MissingProgram(RuntimeError):
    """A Debian program that a test needs is not installed.  Not a skip: `make test` installs it."""


class DidNotStart(RuntimeError):
    """A server ended, or said nothing, before it was ready; carries the end of its log."""


class _PortTaken(DidNotStart):
    pass


def program(name: str) -> str:
    """The path of an installed program.

    :raises MissingProgram: with the name of the Debian package that has it.
    """
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        package = _DEBIAN_PACKAGE.get(name, name)
        raise MissingProgram(f"{name} is not installed; `make test` installs it (Debian package {package})")
    return path


_PORTS = range(15_000, 32_000)
"""Below the range of outgoing connections, so that a server which starts again finds its port free."""

_BLOCK = 200
"""Ports of one process, taken in turn: the port of a server that is down for a while is nobody else's meanwhile."""

_LOCKS: list[IO[str]] = []


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listened on a moment ago, and no other run of tests takes."""
    while True:
        port = next(_own_ports())
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


@functools.cache
def _own_ports() -> Iterator[int]:
    """For ever in a circle: a block of ports that this process has locked, until it ends."""
    folder = Path(tempfile.gettempdir()) / "immuproxy-test-ports"
    folder.mkdir(mode=0o777, exist_ok=True)
    blocks = [_PORTS[at : at + _BLOCK] for at in range(0, len(_PORTS), _BLOCK)]
    for block in secrets.SystemRandom().sample(blocks, len(blocks)):
        lock = (folder / str(block.start)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        _LOCKS.append(lock)
        return itertools.cycle(block)
    raise RuntimeError(f"more than {len(blocks)} runs of tests at once")


def wait_until(condition: Callable[[], object], what: str, seconds: float = _START_SECONDS) -> None:
    """Poll every 2 ms until `condition()` is true.

    :raises TimeoutError: when it is still false after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.002)


@dataclasses.dataclass
class Server:
    """One child process whose log says when it is ready.  Start, stop, kill, freeze; then start it again."""

    name: str
    command: Sequence[str]
    log_path: Path
    ready_text: str
    directory: Path
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    stop_signal: int = signal.SIGTERM
    has_children: bool = False
    process: subprocess.Popen[bytes] | None = dataclasses.field(default=None, repr=False)
    _log_start: int = 0

    @property
    def pid(self) -> int:
        if self.process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def is_ready(self) -> bool:
        """Whether this start has come so far that the server answers."""
        return self.ready_text in self._fresh_log()

    @property
    def log(self) -> str:
        """All that was logged so far, over every start."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def start(self) -> Self:
        """Start, and return when the server answers.

        :raises DidNotStart: with the end of the log.
        """
        if self.is_running:
            raise RuntimeError(f"{self.name} is already running")
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [program("setpriv"), "--pdeathsig", "KILL", *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={"PATH": os.environ.get("PATH", ""), "HOME": str(self.directory), **self.environment},
                start_new_session=True,  # Ctrl-C in the terminal ends pytest, which stops us in order
            )
        self._wait_until_ready()
        return self

    def stop(self) -> None:
        """End the server in order; kill it when it takes longer than 10 s.  Harmless when it is not running."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self) -> Self:
        """Stop and start on the same port with the same data."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(self._is_stopped, f"{self.name} to stand still")

    def _is_stopped(self) -> bool:
        """Whether every thread stands: the signal takes its time on a busy machine."""
        states = [
            path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{self.pid}/task").glob("*/stat")
        ]
        return set(states) == {"T"}

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _fresh_log(self) -> str:
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def _wait_until_ready(self) -> None:
        try:
            wait_until(lambda: not self.is_running or self.is_ready, self.name)
        except TimeoutError as late:
            self.kill()
            raise DidNotStart(f"{late}\n{self._fresh_log()[-2000:]}") from None
        if not self.is_running:
            self._end(signal.SIGKILL)
            why = self._fresh_log()[-2000:]
            kind = _PortTaken if "address already in use" in why.lower() else DidNotStart
            raise kind(f"{self.name} ended at once\n{why}")

    def _end(self, how: int) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)  # a frozen process cannot end in order
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclasses.dataclass
class RegistryServer(Server):
    """A docker-registry.  `storage` is its root directory: look inside, break things."""

    port: int = 0
    storage: Path = Path()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """`host:port`, as image names begin with."""
        return f"127.0.0.1:{self.port}"


@dataclasses.dataclass
class DoorServer(Server):
    """An nginx in front of a registry that asks for a name and a password itself (`auth_basic`)."""

    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclasses.dataclass
class RedisServer(Server):
    """A redis-server with an append-only file and noeviction, reachable by TCP (or TLS) and by a Unix socket."""

    port: int = 0
    socket_path: Path = Path()
    password: str | None = None
    ca_path: Path | None = None

    @property
    def url(self) -> str:
        """`redis://` or, with TLS, `rediss://` (trust `ca_path`), database 0."""
        login = f":{self.password}@" if self.password else ""
        scheme, host = ("rediss", "localhost") if self.ca_path else ("redis", "127.0.0.1")
        return f"{scheme}://{login}{host}:{self.port}/0"

    @property
    def unix_url(self) -> str:
        login = f":{self.password}@" if self.password else ""
        return f"unix://{login}{self.socket_path}?db=0"


def _merged(base: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in more.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return result


def _auth_settings(directory: Path, htpasswd: Mapping[str, str], token: TokenIssuer | None) -> dict[str, Any]:
    if htpasswd:
        lines = (f"{u}:{bcrypt.hashpw(p.encode(), bcrypt.gensalt(4)).decode()}\n" for u, p in htpasswd.items())
        (directory / "htpasswd").write_text("".join(lines))
        return {"htpasswd": {"realm": "tests", "path": str(directory / "htpasswd")}}
    if token:
        (directory / "token-roots.pem").write_bytes(token.root_pem)
        return {
            "token": {
                "realm": token.realm,
                "service": token.service,
                "issuer": token.issuer,
                "rootcertbundle": str(directory / "token-roots.pem"),
            }
        }
    return {}


def make_registry(
    directory: Path,
    *,
    port: int = 0,
    delete: bool = True,
    htpasswd: Mapping[str, str] | None = None,
    token: TokenIssuer | None = None,
    more: Mapping[str, Any] | None = None,
) -> RegistryServer:
    """Write the configuration of a docker-registry, packaged defaults otherwise, and return it not yet started.

    `htpasswd` maps users to passwords; `more` is laid over the configuration (say `{"http": {"relativeurls": True}}`).
    """
    port = port or free_port()
    storage = directory / "storage"
    settings: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "info", "accesslog": {"disabled": False}},
        "storage": {
            "cache": {"blobdescriptor": "inmemory"},
            "filesystem": {"rootdirectory": str(storage)},
            "delete": {"enabled": delete},
        },
        "http": {"addr": f"127.0.0.1:{port}", "secret": "tests only"},
    }
    if auth := _auth_settings(directory, htpasswd or {}, token):
        settings["auth"] = auth
    config = directory / "registry.yml"
    config.write_text(json.dumps(_merged(settings, more or {}), indent=1))  # JSON is YAML
    return RegistryServer(
        name="docker-registry",
        command=[program("docker-registry"), "serve", str(config)],
        log_path=directory / "registry.log",
        ready_text="listening on 127.0.0.1",
        directory=directory,
        port=port,
        storage=storage,
    )


def make_door(directory: Path, registry_url: str, *, users: Mapping[str, str]) -> DoorServer:
    """An nginx that lets `users` (with their passwords) through to a registry, not yet started."""
    port = free_port()
    (directory / "users").write_text("".join(f"{user}:{{PLAIN}}{password}\n" for user, password in users.items()))
    temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    (directory / "nginx.conf").write_text(
        f"""daemon off; master_process off; pid nginx.pid; error_log stderr notice;
        events {{}}
        http {{
            access_log off; client_max_body_size 0; {" ".join(f"{name}_temp_path temp;" for name in temporary)}
            server {{
                listen 127.0.0.1:{port};
                location / {{
                    auth_basic "registry"; auth_basic_user_file users;
                    proxy_pass {registry_url}; proxy_set_header Host $http_host; proxy_http_version 1.1;
                }}
            }}
        }}"""
    )
    return DoorServer(
        name="nginx",
        command=[program("nginx"), "-p", str(directory), "-c", "nginx.conf"],
        log_path=directory / "nginx.log",
        ready_text="getrlimit(RLIMIT_NOFILE)",
        directory=directory,
        port=port,
    )


def make_redis(
    directory: Path,
    *,
    port: int = 0,
    password: str | None = None,
    tls: bool = False,
    binary: str | None = None,
    more: Mapping[str, str] | None = None,
) -> RedisServer:
    """A redis-server with its data in `directory`, not yet started.

    `more` are further settings (`{"maxmemory-policy": "allkeys-lru"}`); `binary` another server, say Valkey's.
    """
    port = port or free_port()
    socket_path = directory / "redis.sock"  # the kernel takes at most 107 bytes
    settings = {
        "bind": "127.0.0.1",
        "port": "0" if tls else str(port),
        "unixsocket": str(socket_path),
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "enable-debug-command": "local",
        **({"requirepass": password} if password else {}),
        **(_tls_settings(directory, port) if tls else {}),
        **(more or {}),
    }
    options = [word for key, value in settings.items() for word in (f"--{key}", value)]
    return RedisServer(
        name="redis-server",
        command=[binary or program("redis-server"), *options],
        log_path=directory / "redis.log",
        ready_text="Ready to accept connections",
        directory=directory,
        port=port,
        socket_path=socket_path,
        password=password,
        ca_path=directory / "ca.pem" if tls else None,
    )


def _tls_settings(directory: Path, port: int) -> dict[str, str]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    leaf.private_key_and_cert_chain_pem.write_to_path(directory / "server.pem")
    return {
        "tls-port": str(port),
        "tls-cert-file": str(directory / "server.pem"),
        "tls-key-file": str(directory / "server.pem"),
        "tls-ca-cert-file": str(directory / "ca.pem"),
        "tls-auth-clients": "no",
    }


@contextlib.contextmanager
def running(make: Callable[[Path], _S], directory: Path | None) -> Iterator[_S]:
    """Start what `make` returns for a directory (a temporary one without `directory`); it is stopped at the end.

    Whose data goes with it is not waited for, unless it has children of its own to end.
    """
    with contextlib.ExitStack() as stack:
        where = directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ip-")))
        where.mkdir(parents=True, exist_ok=True)
        server = _start_on_free_port(make, where)
        stack.callback(server.stop if directory or server.has_children else server.kill)
        yield server


def _start_on_free_port(make: Callable[[Path], _S], where: Path) -> _S:
    for _ in range(5):
        with contextlib.suppress(_PortTaken):
            return make(where).start()
    return make(where).start()


def running_registry(directory: Path | None = None, **options: Any) -> AbstractContextManager[RegistryServer]:
    """A started docker-registry; options as of `make_registry`.  Without `directory` its data goes when it ends."""
    return running(lambda where: make_registry(where, **options), directory)


def running_door(registry_url: str, **options: Any) -> AbstractContextManager[DoorServer]:
    """A started nginx in front of a registry; options as of `make_door`."""
    return running(lambda where: make_door(where, registry_url, **options), None)


def running_redis(directory: Path | None = None, **options: Any) -> AbstractContextManager[RedisServer]:
    """A started redis-server; options as of `make_redis`.  Without `directory` its data goes when it ends."""
    return running(lambda where: make_redis(where, **options), directory)
