"""What must stay of a manifest that may only grow.  Pure.

That the digests are all still there is not enough.  A signature stands in the annotations of its layer, and the layer
is the same for every signer of an image; size and media type decide whether an entry can be pulled; and which entry of
an index a client takes is decided by its platform, of which the first that fits wins (image specification, "Image
Index").
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from immuproxy.oci import manifests
from immuproxy.oci.errors import OciError
from immuproxy.oci.manifests import Manifest

_FREE_IN_AN_INDEX = frozenset({"annotations", "artifactType"})
"""What every tool that writes an index again fills in in its own way, and nobody resolves by."""

_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Substance:
    """``digests``: of the entries of an index or the layers of an image.  ``descriptors``: each of them as one line,
    the digest first.  ``platforms``: platform -> digest of the entry that a client on it takes.
    """

    digests: frozenset[str]
    descriptors: frozenset[str] = frozenset()
    platforms: Mapping[str, str] = field(default_factory=lambda: _NONE)


def substance(manifest: Manifest) -> Substance:
    """What an append-only tag that holds ``manifest`` must keep.

    Of a document that cannot be read with certainty (it came before the proxy), every digest that stands in it.
    """
    try:
        manifests.read(manifest.body, manifest.media_type)
    except OciError:
        return Substance(manifest.needs)
    document = json.loads(manifest.body)
    listed = document.get("manifests" if manifest.is_index else "layers")
    found = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    free = _FREE_IN_AN_INDEX if manifest.is_index else frozenset[str]()
    return Substance(
        digests=frozenset(manifest.entries),
        descriptors=frozenset(_line(descriptor, free) for descriptor in found),
        platforms=MappingProxyType(_first_of_each_platform(found)) if manifest.is_index else _NONE,
    )


def _line(descriptor: Mapping[str, Any], free: frozenset[str]) -> str:
    return f"{descriptor.get('digest')} {_canonical({k: v for k, v in descriptor.items() if k not in free})}"


def _first_of_each_platform(listed: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for descriptor in listed:
        if isinstance(descriptor.get("platform"), dict):
            found.setdefault(_canonical(descriptor["platform"]), str(descriptor.get("digest")))
    return found


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
