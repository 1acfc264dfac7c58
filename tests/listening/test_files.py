"""How many files may be open, and what is said where they run out (H89)."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from immuproxy.listening.files import Shortage

ASK = "from immuproxy.listening import files; print(files.raise_limit(), files.room(files.FOR_EDGE))"


@pytest.mark.parametrize(("limits", "said"), [("1024:4000", "4000 1200"), ("1024:1024", "1024 307")])
def test_h89_the_soft_limit_becomes_the_hard_one_and_bounds_the_connections(limits: str, said: str) -> None:
    done = subprocess.run(
        ["prlimit", f"--nofile={limits}", sys.executable, "-c", ASK], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == said


def test_h89_too_many_open_files_is_said_once_a_minute() -> None:
    now = [100.0]
    shortage = Shortage("edge", lambda: now[0])
    with capture_logs() as logs:
        for _ in range(1000):
            shortage.met(OSError(errno.EMFILE, "Too many open files"))
        assert [said(logs)] == [[("edge", "Too many open files", 1)]]
        now[0] += 61
        shortage.met(OSError(errno.EMFILE, "Too many open files"))
    assert said(logs)[1:] == [("edge", "Too many open files", 1000)]


def said(logs: Sequence[Any]) -> list[tuple[str, str, int]]:
    return [(entry["listener"], entry["reason"], entry["times"]) for entry in logs]
