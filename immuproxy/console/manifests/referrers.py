"""What signs, describes or otherwise refers to a manifest.  PURE.

The registry has no referrers API, so clients keep tags for it: ``sha256-<hex>`` lists what names the manifest as its
subject (distribution specification, "Referrers Tag Schema"), and cosign keeps ``.sig``, ``.att`` and ``.sbom`` beside.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from immuproxy.console.manifests.document import Descriptor, Document
from immuproxy.ledger.model import TagRecord

_SUFFIXES = {"": "referrers", ".sig": "signatures", ".att": "attestations", ".sbom": "SBOMs"}
_ABOUT = re.compile(r"sha256-([a-f0-9]{64})(\.sig|\.att|\.sbom)?", re.ASCII)

_TYPES = (
    ("application/vnd.dev.sigstore.bundle", "Sigstore bundle"),
    ("application/vnd.dev.cosign.simplesigning", "cosign signature"),
    ("application/vnd.dev.cosign.artifact.sig", "cosign signature"),
    ("application/vnd.cncf.notary.signature", "Notary signature"),
    ("application/vnd.dsse.envelope", "attestation"),
    ("application/vnd.in-toto", "attestation"),
    ("application/spdx", "SPDX SBOM"),
    ("text/spdx", "SPDX SBOM"),
    ("application/vnd.cyclonedx", "CycloneDX SBOM"),
    ("application/vnd.cncf.helm", "Helm chart"),
)
_PREDICATES = ("predicateType", "in-toto.io/predicate-type", "dev.sigstore.bundle.predicateType")


def tags_about(digest: str) -> tuple[str, ...]:
    """The tags under which clients keep what refers to a manifest."""
    name = digest.replace(":", "-")
    return tuple(f"{name}{suffix}" for suffix in _SUFFIXES)


def about_of(tag: str) -> dict[str, str] | None:
    """What such a tag keeps, and the digest of the manifest that it is about; None for any other tag."""
    found = _ABOUT.fullmatch(tag)
    return {"kind": _SUFFIXES[found[2] or ""], "digest": f"sha256:{found[1]}"} if found else None


@dataclass(frozen=True, slots=True)
class About:
    """One of the tags, and the manifest that it holds where that is known."""

    record: TagRecord
    digest: str
    document: Document | None


def kind_of(part: Descriptor) -> str:
    """What a referrer or a layer of one is, in a few words; its own media type where that says more."""
    named = part.artifact_type or part.media_type
    known = next((words for beginning, words in _TYPES if named.startswith(beginning)), "")
    return known or named


def _predicate(part: Descriptor) -> str:
    return next((part.annotations[name] for name in _PREDICATES if part.annotations.get(name)), "")


def _row(part: Descriptor) -> dict[str, Any]:
    return {"kind": kind_of(part), "predicate": _predicate(part), **part.to_dict()}


def about_dict(about: About) -> dict[str, Any]:
    """A tag about the manifest, with what is listed there: an index lists manifests, cosign's tags keep layers."""
    document, suffix = about.document, about.record.tag[len("sha256-") + 64 :]
    parts: Sequence[Descriptor] = ()
    total = None
    if document is not None:
        parts = document.children if document.is_index else document.layers
        total = document.children_total if document.is_index else document.layers_total
    return {
        "tag": about.record.tag,
        "kind": _SUFFIXES[suffix],
        "digest": about.digest,
        "by_digest": document is not None and document.is_index,
        "count": total,
        "entries": [_row(part) for part in parts],
    }
