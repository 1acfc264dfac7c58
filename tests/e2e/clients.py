"""The clients that people push with, each with a private store: docker (with an engine of its own), podman, skopeo."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.layouts import tar_with
from tests.support.servers import DidNotStart, Server, program

SECONDS = 300


class CannotStart(Exception):
    """No private container engine can run on this machine; the message says why."""


class Refused(Exception):
    """A client ended with an error; the message is all that it printed."""


@dataclass(frozen=True)
class Client:
    """A command line with its fixed options."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, stdin: bytes = b"", seconds: float = SECONDS) -> str:
        """Run it; what it printed.

        :raises Refused: when its exit status is not 0.
        """
        done = subprocess.run(
            [*self.command, *arguments],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **self.environment},
            timeout=seconds,
            check=False,
        )
        output = done.stdout.decode(errors="replace")
        if done.returncode != 0:
            raise Refused(output)
        return output


class Builder(Client):
    """A client that builds images FROM scratch and pushes them."""

    push_options: Sequence[str] = ()

    def build(self, image: str, text: str, labels: Mapping[str, str] | None = None) -> None:
        """An image of one small layer; another text is another image."""
        lines = ["FROM scratch", "COPY text /text", *(f'LABEL "{k}"="{v}"' for k, v in (labels or {}).items())]
        context = tar_with({"Dockerfile": "\n".join(lines).encode(), "text": text.encode()})
        self.run("build", *self._build_options(image), stdin=context)

    def push(self, image: str) -> str:
        return self.run("push", *self.push_options, image)

    def pull(self, image: str) -> str:
        """Pull into a store that does not have it."""
        return self.run("pull", *self.push_options, image)

    def remove(self, image: str) -> None:
        self.run("rmi", "--force", image)

    def image_id(self, image: str) -> str:
        """The digest of the image's configuration, and so of its content."""
        return self.run("image", "inspect", "--format", "{{.Id}}", image).strip().removeprefix("sha256:")

    def _build_options(self, image: str) -> Sequence[str]:
        return ("--quiet", "--tag", image, "-")


class Docker(Builder):
    """The docker client against an engine of its own.  127.0.0.0/8 needs no TLS."""


class Podman(Builder):
    """podman as root, with storage of its own."""

    push_options = ("--tls-verify=false",)

    def build(self, image: str, text: str, labels: Mapping[str, str] | None = None) -> None:
        with tempfile.TemporaryDirectory() as context:
            (Path(context) / "text").write_text(text)
            lines = ["FROM scratch", "COPY text /text", *(f'LABEL "{k}"="{v}"' for k, v in (labels or {}).items())]
            (Path(context) / "Dockerfile").write_text("\n".join(lines))
            self.run("build", "--quiet", "--tag", image, context)


class Skopeo(Client):
    """Copies images between layouts and registries without TLS."""

    def push(self, source: str, image: str, *options: str) -> str:
        return self.run("copy", "--dest-tls-verify=false", *options, source, f"docker://{image}")

    def pull(self, image: str, into: Path, *options: str) -> Path:
        """Copy an image, each platform with `--all`, into a new OCI layout."""
        self.run("copy", "--src-tls-verify=false", *options, f"docker://{image}", f"oci:{into}:pulled")
        return into


def skopeo() -> Skopeo:
    return Skopeo([program("skopeo"), "--insecure-policy"])


def podman(directory: Path) -> Podman:
    """podman with everything it keeps below `directory`."""
    policy = directory / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    roots = [f"--root={directory / 'root'}", f"--runroot={directory / 'run'}", f"--tmpdir={directory / 'tmp'}"]
    options = ["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none", *roots]
    return Podman([program("podman"), *options], {"CONTAINERS_POLICY": str(policy), "TMPDIR": str(directory)})


def _why_no_engine() -> str | None:
    if os.geteuid() != 0:
        return "dockerd needs root"
    if not Path("/proc/self/cgroup").exists():
        return "the kernel has no control groups"
    return None


@contextlib.contextmanager
def running_dockerd(*options: str) -> Iterator[tuple[Docker, Server]]:
    """A private dockerd: own socket, own storage, and no firewall rules or bridges unless `options` ask for them.

    :raises CannotStart: where no dockerd can run.
    """
    if reason := _why_no_engine():
        raise CannotStart(reason)
    with contextlib.ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ip-", ignore_cleanup_errors=True)))
        stack.callback(_unmount_below, where)
        socket = f"unix://{where}/docker.sock"
        engine = Server(
            name="dockerd",
            command=[program("dockerd"), f"--host={socket}", *_places(where), *options],
            log_path=where / "dockerd.log",
            ready_text="API listen on",
            directory=where,
        )
        stack.callback(engine.stop)
        try:
            engine.start()
        except DidNotStart as error:
            raise CannotStart(f"dockerd cannot run on this machine: {str(error)[-500:]}") from error
        environment = {"DOCKER_HOST": socket, "DOCKER_CONFIG": str(where / "client"), "DOCKER_BUILDKIT": "0"}
        yield Docker([program("docker")], environment), engine


NO_NETWORK = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false")
"""For an engine that only builds FROM scratch, pushes and pulls: it leaves the host's network alone."""


def _places(where: Path) -> Sequence[str]:
    driver = "overlay2" if _can_overlay(where) else "vfs"  # vfs copies everything for each layer, but works anywhere
    places = (f"--data-root={where}/data", f"--exec-root={where}/exec", f"--pidfile={where}/dockerd.pid")
    return (f"--storage-driver={driver}", *places)


def _can_overlay(where: Path) -> bool:
    lower, upper, work, merged = (where / name for name in ("lower", "upper", "work", "merged"))
    for directory in (lower, upper, work, merged):
        directory.mkdir()
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    command = ["mount", "-t", "overlay", "overlay", "-o", options, str(merged)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    if mounted:
        subprocess.run(["umount", str(merged)], check=True)
    return mounted


def _unmount_below(where: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for point in sorted((m for m in mounts if m.startswith(f"{where}/")), reverse=True):
        subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)
