"""Images made by hand, as an OCI layout on disk that skopeo and podman can read.  Nothing is ever pulled."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPT_ALL = f"{MANIFEST}, {INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}"
"""With less than these four, docker-registry converts what it holds, and signs that anew each time."""
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"  # skopeo would compress a plain tar, and so change it
_PIECE = 1 << 20

Descriptor = dict[str, Any]


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


@dataclass
class Layout:
    """An OCI layout that is still being written; each tag is one entry of its index.json."""

    root: Path
    _tags: dict[str, Descriptor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.blobs.mkdir(parents=True)
        (self.root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    @property
    def blobs(self) -> Path:
        return self.root / "blobs" / "sha256"

    def source(self, tag: str) -> str:
        """How skopeo and podman name it."""
        return f"oci:{self.root}:{tag}"

    def image(
        self, text: str, *, size: int = 0, labels: Mapping[str, str] | None = None, platform: str = "linux/amd64"
    ) -> Descriptor:
        """An image of one layer with one file: the text, then noise that does not compress up to `size` bytes."""
        content = hashlib.sha256()
        layer = self._blob(_stored(_tar_of(text, size), content.update), LAYER)
        system, architecture = platform.split("/")
        config = {
            "os": system,
            "architecture": architecture,
            "config": {"Labels": dict(labels or {})},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{content.hexdigest()}"]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._json(config, CONFIG),
            "layers": [layer],
        }
        return {**self._json(manifest, MANIFEST), "platform": {"os": system, "architecture": architecture}}

    def index(self, entries: Sequence[Descriptor]) -> Descriptor:
        """A multi-platform manifest of those."""
        return self._json({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}, INDEX)

    def tag(self, tag: str, what: Descriptor) -> str:
        """Name a manifest; its digest."""
        self._tags[tag] = {**what, "annotations": {"org.opencontainers.image.ref.name": tag}}
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(self._tags.values())}
        (self.root / "index.json").write_text(json.dumps(index))
        return str(what["digest"])

    def _json(self, document: object, media_type: str) -> Descriptor:
        return self._blob(iter([json.dumps(document).encode()]), media_type)

    def _blob(self, pieces: Iterator[bytes], media_type: str) -> Descriptor:
        sha, size = hashlib.sha256(), 0
        unnamed = self.root / "unnamed"
        with unnamed.open("wb") as file:
            for piece in pieces:
                sha.update(piece)
                size += file.write(piece)
        unnamed.rename(self.blobs / sha.hexdigest())
        return {"mediaType": media_type, "digest": f"sha256:{sha.hexdigest()}", "size": size}


def _tar_of(text: str, size: int) -> Iterator[bytes]:
    content = text.encode()
    entry = tarfile.TarInfo("text")
    entry.size = max(size, len(content))
    yield entry.tobuf()
    yield content
    yield from _noise(text, entry.size - len(content))
    yield b"\0" * (-entry.size % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)


def _stored(pieces: Iterator[bytes], seen: Callable[[bytes], None]) -> Iterator[bytes]:
    """A gzip stream that compresses nothing; `seen` is shown each piece as it was."""
    gzip = zlib.compressobj(level=0, wbits=31)
    for piece in pieces:
        seen(piece)
        yield gzip.compress(piece)
    yield gzip.flush()


def _noise(seed: str, size: int) -> Iterator[bytes]:
    noise = hashlib.shake_128(seed.encode()).digest(_PIECE)
    for n in range(0, size, _PIECE):
        piece = n.to_bytes(8, "big") + noise[8:]
        yield piece[: size - n]


def tar_with(files: Mapping[str, bytes]) -> bytes:
    """A tar archive in memory, say a build context."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def blobs_of(layout: Path) -> dict[str, int]:
    """Digest and size of each blob of a layout on disk; digests are taken of the bytes, not of the names."""
    return {digest_of(path): path.stat().st_size for path in sorted((layout / "blobs" / "sha256").iterdir())}
