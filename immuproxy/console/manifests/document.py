"""What the bytes of a manifest say, whoever pushed them.  PURE.

Nothing here trusts the bytes: what has an unexpected type is left out, and of very long lists the beginning is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from immuproxy.oci import manifests

MOST_PARTS = 500
"""Children or layers of one manifest that are shown; real ones have at most 127 layers (Docker's limit)."""

MOST_PAIRS = 200
LONGEST_TEXT = 4_000
"""Annotations or labels that are shown, and characters of one."""

KINDS = {
    manifests.OCI_INDEX: "index (several platforms)",
    manifests.DOCKER_LIST: "index (several platforms), in Docker's form",
    manifests.OCI_MANIFEST: "image",
    manifests.DOCKER_MANIFEST: "image, in Docker's form",
}

IMAGE_CONFIGS = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)

_BUILDX_TYPE, _BUILDX_SUBJECT = "vnd.docker.reference.type", "vnd.docker.reference.digest"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest says of another manifest or blob: ``size`` in bytes, None where it does not say."""

    digest: str
    media_type: str = ""
    size: int | None = None
    platform: str = ""
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def attests(self) -> str:
        """The digest of the sibling that this child is BuildKit's attestation of, or nothing."""
        attests = self.annotations.get(_BUILDX_TYPE) == "attestation-manifest"
        return self.annotations.get(_BUILDX_SUBJECT, "") if attests else ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "digest": self.digest,
            "media_type": self.media_type,
            "size": self.size,
            "platform": self.platform,
            "artifact_type": self.artifact_type,
            "annotations": dict(self.annotations),
        }


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest.  ``children_total`` and ``layers_total`` count those too that are not kept."""

    media_type: str
    length: int
    children: tuple[Descriptor, ...] = ()
    children_total: int = 0
    layers: tuple[Descriptor, ...] = ()
    layers_total: int = 0
    config: Descriptor | None = None
    subject: str = ""
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_index(self) -> bool:
        """Whether it lists other manifests."""
        return self.media_type in manifests.INDEX_TYPES

    @property
    def is_image(self) -> bool:
        """Whether it describes something that can be run, and not an artifact in the form of an image."""
        return self.config is not None and self.config.media_type in IMAGE_CONFIGS and not self.is_index

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers."""
        return (self.config, *self.layers) if self.config else self.layers

    @property
    def images(self) -> tuple[Descriptor, ...]:
        """The children that are images, not attestations of one."""
        return tuple(child for child in self.children if not child.attests)


def read_document(body: bytes, media_type: str) -> Document | None:
    """Read a manifest; None where the bytes are none."""
    read = read_object(body)
    if read is None:
        return None
    config, subject = read.get("config"), read.get("subject")
    children, layers = _objects(read.get("manifests")), _objects(read.get("layers"))
    return Document(
        media_type=media_type,
        length=len(body),
        children=tuple(map(_part, children[:MOST_PARTS])),
        children_total=len(children),
        layers=tuple(map(_part, layers[:MOST_PARTS])),
        layers_total=len(layers),
        config=_part(config) if isinstance(config, dict) else None,
        subject=text_of(subject.get("digest")) if isinstance(subject, dict) else "",
        artifact_type=text_of(read.get("artifactType")),
        annotations=pairs_of(read.get("annotations")),
    )


def read_object(body: bytes) -> dict[str, Any] | None:
    """A JSON object from bytes that somebody else wrote; None where they are none, or built to cost time."""
    if manifests.has_too_many_parts(body):
        return None
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text_of(value: Any) -> str:
    """A text, cut where it is very long; nothing where it is none.  Half of a surrogate pair is replaced."""
    if not isinstance(value, str):
        return ""
    return value[:LONGEST_TEXT].encode(errors="replace").decode()


def pairs_of(value: Any) -> dict[str, str]:
    """Annotations or labels, as far as they are texts."""
    if not isinstance(value, dict):
        return {}
    pairs = ((text_of(name), text_of(text)) for name, text in value.items() if isinstance(text, str))
    return dict(pair for _, pair in zip(range(MOST_PAIRS), pairs, strict=False))


def _number(value: Any) -> int | None:
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= manifests.MAX_SIZE
    return value if known else None


def _platform(value: Any) -> str:
    if not isinstance(value, dict):
        return ""
    return "/".join(filter(None, (text_of(value.get(key)) for key in ("os", "architecture", "variant"))))


def _part(value: Mapping[str, Any]) -> Descriptor:
    return Descriptor(
        digest=text_of(value.get("digest")),
        media_type=text_of(value.get("mediaType")),
        size=_number(value.get("size")),
        platform=_platform(value.get("platform")),
        artifact_type=text_of(value.get("artifactType")),
        annotations=pairs_of(value.get("annotations")),
    )


def whole_size(document: Document, children: Mapping[str, Document]) -> int | None:
    """Bytes of the manifest with all that it describes, each blob once; of an index with what its children describe.

    None where a child is not known, or something does not say its size.
    """
    documents = [document]
    if document.is_index:
        found = [children.get(child.digest) for child in document.children]
        if document.children_total > len(document.children) or None in found:
            return None
        documents += [child for child in found if child]
    sizes = {part.digest: part.size for each in documents for part in each.blobs}
    known = [size for size in sizes.values() if size is not None]
    return sum(known) + sum(each.length for each in documents) if len(known) == len(sizes) else None
