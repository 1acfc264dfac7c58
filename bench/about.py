"""Where and with what a run was made."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.support.servers import program

PACKAGES = {
    "docker-registry": "docker-registry",
    "nginx": "nginx",
    "haproxy": "haproxy",
    "redis-server": "redis-server",
    "curl": "curl",
    "wrk": "wrk",
}
"""The programs that a run needs, and Debian's packages that have them."""

_ASK = {"docker-registry": "--version", "nginx": "-v", "haproxy": "-v", "redis-server": "-v", "curl": "-V", "wrk": "-v"}


def missing() -> str:
    """What is to be done before a run, or nothing."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    packages = [package for name, package in PACKAGES.items() if shutil.which(name, path=path) is None]
    return f"tools/setup bench installs what is missing here, Debian's {' and '.join(packages)}" if packages else ""


def about(runs: int, scale: float) -> dict[str, Any]:
    """Date, machine and versions; ``load_after`` is still to come."""
    return {
        "date": time.strftime("%F"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB, Linux {platform.release()}",
        "versions": _versions(),
        "runs": runs,
        "scale": scale,
        "load_before": load(),
    }


def load() -> float:
    """The machine's load of the last minute."""
    return round(os.getloadavg()[0], 1)


def _versions() -> dict[str, str]:
    asked = {name: _number(name) for name in PACKAGES}
    return {
        **asked,
        "Python": platform.python_version(),
        "immuproxy": importlib.metadata.version("immuproxy") + _commit(),
    }


def _number(name: str) -> str:
    said = subprocess.run([program(name), _ASK[name]], capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+[\w.+~-]*", said.stdout + said.stderr)
    return found[0] if found else "unknown"


def _commit() -> str:
    """The commit, where this is a clone."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        said = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f" ({said.stdout.strip()})"


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
