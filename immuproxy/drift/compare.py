"""What the ledger holds beside what the upstream shows -> what is wrong.  Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from immuproxy.ledger.model import TagRecord
from immuproxy.oci import names
from immuproxy.oci.manifests import Manifest

EMPTY_BLOB = names.digest_of(b"")
"""Has no first byte that could be read, and nothing that could be lost."""

_NOT_FOUND = 404


class Problem(StrEnum):
    """What can be wrong with a tag, a manifest or a blob at the upstream."""

    MOVED = "moved"
    MISSING = "missing"
    UNREADABLE = "unreadable"


class Part(StrEnum):
    """What it is wrong with."""

    TAG = "tag"
    MANIFEST = "manifest"
    BLOB = "blob"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the upstream showed: a digest whose bytes were checked, the status that it answered instead, or why it told
    nothing.
    """

    digest: str = ""
    status: int = 200
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that does not hold.  ``digest`` is the one that should be there."""

    problem: Problem
    part: Part
    digest: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """Plain JSON values."""
        return {
            "problem": self.problem.value,
            "part": self.part.value,
            "digest": self.digest,
            "reason": self.reason,
        }


def tag_fault(found: TagRecord, seen: Seen) -> Fault | None:
    """What is wrong with a committed tag.  During an overwrite, the upstream may show the new digest already."""
    if found.committed is None:
        return None
    held = found.committed.digest
    if seen.digest and seen.digest != held:
        if found.claim is not None and found.claim.digest == seen.digest:
            return None
        return Fault(Problem.MOVED, Part.TAG, held, f"the upstream shows {seen.digest}")
    return _absence(Part.TAG, held, seen)


def manifest_fault(digest: str, seen: Seen) -> Fault | None:
    """What is wrong with a manifest that was asked for by its digest."""
    if seen.digest and seen.digest != digest:
        return Fault(Problem.UNREADABLE, Part.MANIFEST, digest, f"the upstream sends the bytes of {seen.digest}")
    return _absence(Part.MANIFEST, digest, seen)


def blob_fault(digest: str, seen: Seen) -> Fault | None:
    """What is wrong with a blob; 200 stands for a first byte that was read."""
    return _absence(Part.BLOB, digest, seen)


def _absence(part: Part, digest: str, seen: Seen) -> Fault | None:
    if seen.failure:
        return Fault(Problem.UNREADABLE, part, digest, seen.failure)
    if seen.status == _NOT_FOUND:
        return Fault(Problem.MISSING, part, digest, f"the upstream does not give out this {part.value}")
    if not seen.digest and part is not Part.BLOB:
        reason = f"the upstream answered {seen.status}: immuproxy may not look (upstream.username)"
        return Fault(Problem.UNREADABLE, part, digest, reason)
    return None


def required_blobs(manifest: Manifest) -> tuple[str, ...]:
    """The blobs without which the manifest cannot be pulled: config and layers, each once.

    Layers that are stored elsewhere (image specification, "Non-Distributable Layers") are not among them.
    """
    if manifest.is_index:
        return ()
    elsewhere = _stored_elsewhere(manifest.body)
    blobs = dict.fromkeys((manifest.config, *manifest.entries))
    return tuple(blob for blob in blobs if blob and blob not in elsewhere and blob != EMPTY_BLOB)


def _stored_elsewhere(body: bytes) -> frozenset[str]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return frozenset()
    layers = document.get("layers") if isinstance(document, dict) else None
    described = [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []
    return frozenset(layer["digest"] for layer in described if _is_foreign(layer))


def _is_foreign(layer: Mapping[str, Any]) -> bool:
    kind = layer.get("mediaType")
    named = isinstance(kind, str) and (".foreign." in kind or ".nondistributable." in kind)
    return named and isinstance(layer.get("digest"), str)
