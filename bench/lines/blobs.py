"""One large blob over one connection, down and up."""

from __future__ import annotations

from collections.abc import Callable

from bench.clients import curl, plain
from bench.measure import Line, Row
from bench.proxies.starting import CONTENDERS
from bench.scene import MIB, REPOSITORY, Blob, Scene

_GIB = 1 << 30


def download(scene: Scene) -> Line:
    blob = scene.blob(1024)

    def seconds(url: str) -> float:
        return curl.download(f"{url}/v2/{REPOSITORY}/blobs/{blob.digest}", blob.size)

    return _line("download", scene, blob, seconds)


def upload(scene: Scene) -> Line:
    """The registry has the blob already, and writes and hashes it all the same before it finds that out."""
    blob = scene.blob(512)

    def seconds(url: str) -> float:
        return curl.upload(plain.upload_address(url, REPOSITORY, blob.digest), blob.file)

    return _line("upload", scene, blob, seconds)


def _line(way: str, scene: Scene, blob: Blob, seconds: Callable[[str], float]) -> Line:
    rows = (
        Row(way, f"blob {way}, {blob.size // MIB:,} MiB, one connection, GB/s"),
        Row(f"{way}-cpu", f"blob {way}, CPU seconds of the proxy per GiB"),
    )

    def measure(contender: str) -> tuple[float | None, ...]:
        took, cpu = scene.spending(contender, seconds)
        return blob.size / took / 1e9, cpu and cpu / (blob.size / _GIB)

    return Line(rows, CONTENDERS, measure)
