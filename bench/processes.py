"""What a process and all its descendants have used so far."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> Iterator[int]:
    """The process, its children, their children."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            for child in thread.read_text().split():
                yield from family(int(child))


def cpu_seconds(pid: int) -> float:
    """User and system time of the family, with the children that ended and were waited for; steps of 10 ms."""
    return sum(sum(map(int, _stat(each)[11:15])) for each in family(pid)) / _TICKS


def memory_mib(pid: int) -> float:
    """Resident memory of the family; what its processes share counts once (Pss)."""
    return sum(_pss_kib(each) for each in family(pid)) / 1024


def _stat(pid: int) -> list[str]:
    """The fields of proc(5) from the third on, for the name before it may have blanks."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _pss_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


class Peak:
    """The most memory that a family had while the block ran, looked at every 50 ms."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.mib = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self.mib = max(self.mib, memory_mib(self._pid))
