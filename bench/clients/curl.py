"""curl as a client that moves blobs."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.servers import program


def download(url: str, size: int) -> float:
    """The seconds that a GET of ``size`` bytes took."""
    return _run(url, 200, size, "-o", "/dev/null")


def upload(url: str, file: Path) -> float:
    """The seconds that a PUT of the file took."""
    return _run(
        url, 201, 0, "-o", "/dev/null", "-T", str(file), "-H", "Expect:", "-H", "Content-Type: application/octet-stream"
    )


def download_many(url: str, times: int) -> None:
    """GET the same blob over that many connections at once.

    :raises subprocess.CalledProcessError: when one of them is not answered 200, or ends early.
    """
    options = ["-s", "-f", "-Z", "--parallel-immediate", "--parallel-max", str(times), "-o", "/dev/null"]
    subprocess.run([program("curl"), *options, f"{url}?[1-{times}]"], check=True, capture_output=True)


def _run(url: str, status: int, size: int, *options: str) -> float:
    command = [program("curl"), "-s", "-w", "%{http_code} %{size_download} %{time_total}", *options, url]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    if int(said[0]) != status or int(said[1]) < size:
        raise RuntimeError(f"{url}: {said[0]}, {said[1]} bytes")
    return float(said[2])
