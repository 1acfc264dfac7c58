"""Files of other kinds in the place of a plain one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def replace(path: Path, kind: str) -> None:
    """Put a ``fifo``, a ``directory`` or a ``huge`` file (1 GiB, of which nothing is on the disk) there."""
    path.unlink()
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "huge":
            with path.open("wb") as file:
                file.truncate(1 << 30)


def release(path: Path) -> None:
    """Let go whoever waits to read a pipe."""
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
