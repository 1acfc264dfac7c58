"""wrk as a client that pulls and pushes manifests as fast as it is answered."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from bench.clients.load import Load
from tests.support.servers import program

_SCRIPT = Path(__file__).with_name("manifests.lua")


def load(url: str, *arguments: str, connections: int, seconds: int, accept: str = "*/*") -> Load:
    """``arguments`` are those of manifests.lua.

    :raises RuntimeError: when nothing was answered, or connections broke.
    """
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(_SCRIPT)]
    command = [program("wrk"), *options, "-H", f"Accept: {accept}", url, "--", *arguments]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = Load(**json.loads(said[said.index("{") :]))
    if found.broken or not found.requests:
        raise RuntimeError(f"{url}: {found}")
    return found
