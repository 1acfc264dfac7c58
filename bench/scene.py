"""One registry with all contenders before it, and what is in it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench.clients import curl, plain
from bench.processes import cpu_seconds
from bench.proxies.starting import DIRECT, PROXIES, Front, make
from tests.support.servers import RedisServer, RegistryServer, running, running_redis, running_registry

MIB = 1 << 20
REPOSITORY = "bench/blobs"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Blob:
    """A file of random bytes, and its digest."""

    file: Path
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Fresh:
    """A proxy that was ready ``seconds`` after its process began, and its empty Redis."""

    front: Front
    redis: RedisServer
    seconds: float


@dataclass
class Scene:
    """``scale`` 1 is the full size of everything."""

    directory: Path
    registry: RegistryServer
    redis: RedisServer
    fronts: dict[str, Front]
    scale: float
    _blobs: dict[int, Blob] = field(default_factory=dict)

    def url(self, contender: str) -> str:
        return self.registry.url if contender == DIRECT else self.fronts[contender].url

    def spending(self, contender: str, work: Callable[[str], _T]) -> tuple[_T, float | None]:
        """What ``work`` makes of the contender's address, and the CPU seconds of the proxy's processes meanwhile."""
        if contender == DIRECT:
            return work(self.registry.url), None
        pid = self.fronts[contender].pid
        before = cpu_seconds(pid)
        return work(self.url(contender)), cpu_seconds(pid) - before

    @property
    def seconds(self) -> int:
        """How long a load lasts; wrk knows whole seconds."""
        return max(1, round(4 * self.scale))

    def blob(self, full_mib: int) -> Blob:
        """One of that size, scaled; in the registry from the first time on."""
        size = max(1, round(full_mib * self.scale)) * MIB
        if size not in self._blobs:
            self._blobs[size] = blob = _written(self.directory / f"blob-{size}", size)
            curl.upload(plain.upload_address(self.registry.url, REPOSITORY, blob.digest), blob.file)
        return self._blobs[size]

    @contextlib.contextmanager
    def fresh(self, name: str) -> Iterator[Fresh]:
        """Another proxy of that name, with a Redis of its own."""
        with contextlib.ExitStack() as stack:
            redis = stack.enter_context(running_redis())
            begun = time.perf_counter()
            front = stack.enter_context(running(partial(make, name, registry=self.registry, redis=redis), None))
            yield Fresh(front, redis, time.perf_counter() - begun)


@contextlib.contextmanager
def opened(directory: Path, scale: float) -> Iterator[Scene]:
    """Start the registry, Redis and all proxies."""
    with contextlib.ExitStack() as stack:
        registry = stack.enter_context(running_registry(directory / "registry"))
        redis = stack.enter_context(running_redis())
        fronts = {
            name: stack.enter_context(running(partial(make, name, registry=registry, redis=redis), directory / name))
            for name in PROXIES
        }
        yield Scene(directory, registry, redis, fronts, scale)


def _written(file: Path, size: int) -> Blob:
    digest, piece = hashlib.sha256(), os.urandom(MIB)
    with file.open("wb") as out:
        for number in range(size // MIB):
            content = number.to_bytes(8) + piece[8:]
            digest.update(content)
            out.write(content)
    return Blob(file, size, f"sha256:{digest.hexdigest()}")
