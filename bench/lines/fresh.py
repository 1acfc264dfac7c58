"""The time and memory that a proxy needs from its start.  immuproxy's ledger is empty; Redis is not counted."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.clients import curl
from bench.clients.stalled import stalled
from bench.measure import Line, Row
from bench.processes import Peak, memory_mib
from bench.proxies.starting import PROXIES, Front
from bench.scene import MIB, REPOSITORY, Scene

READERS = 50
_SETTLE_SECONDS = 2.0


def start(scene: Scene) -> Line:
    def measure(contender: str) -> tuple[float]:
        with scene.fresh(contender) as fresh:
            return (fresh.seconds,)

    return Line((Row("start", "start: process start to ready, s"),), PROXIES, measure)


def idle(scene: Scene) -> Line:
    return _memory(scene, "memory-idle", "memory, idle, MiB", lambda front: _settled(front.pid))


def with_stalled_readers(scene: Scene) -> Line:
    blob = scene.blob(100)

    def mib(front: Front) -> float:
        with stalled(f"{front.url}/v2/{REPOSITORY}/blobs/{blob.digest}", READERS):
            return _settled(front.pid)

    return _memory(scene, "memory-stalled", f"memory, {READERS} stalled readers of {blob.size // MIB} MiB, MiB", mib)


def with_readers(scene: Scene) -> Line:
    blob = scene.blob(100)

    def mib(front: Front) -> float:
        with Peak(front.pid) as peak:
            curl.download_many(f"{front.url}/v2/{REPOSITORY}/blobs/{blob.digest}", READERS)
        return peak.mib

    return _memory(scene, "memory-reading", f"memory, {READERS} readers of {blob.size // MIB} MiB, MiB at most", mib)


def _settled(pid: int) -> float:
    time.sleep(_SETTLE_SECONDS)
    return memory_mib(pid)


def _memory(scene: Scene, key: str, name: str, mib: Callable[[Front], float]) -> Line:
    def measure(contender: str) -> tuple[float]:
        with scene.fresh(contender) as fresh:
            return (mib(fresh.front),)

    return Line((Row(key, name, 0),), PROXIES, measure)
