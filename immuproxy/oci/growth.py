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

_MAY_COME_LATER = frozenset({"annotations", "artifactType"})
"""What a tool that writes an index again may fill in where it is missing.  What an entry has of it stays: by it clients
find the signatures among the referrers of an image (distribution specification, "Listing Referrers"; H95).
"""

_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Substance:
    """``digests``: of the entries of an index or the layers of an image.  ``descriptors``: each of them as one line,
    the digest first; in an index, each annotation as one more.  ``platforms``: platform -> digest of the entry that a
    client on it takes.
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
    lines = _entry_lines if manifest.is_index else _whole_line
    return Substance(
        digests=frozenset(manifest.entries),
        descriptors=frozenset(line for descriptor in found for line in lines(descriptor)),
        platforms=MappingProxyType(_first_of_each_platform(found)) if manifest.is_index else _NONE,
    )


def _whole_line(descriptor: Mapping[str, Any]) -> list[str]:
    return [f"{descriptor.get('digest')} {_canonical(descriptor)}"]


def _entry_lines(descriptor: Mapping[str, Any]) -> list[str]:
    """What an entry is, and line by line what is noted beside it."""
    [line] = _whole_line({key: value for key, value in descriptor.items() if key not in _MAY_COME_LATER})
    notes = descriptor.get("annotations")
    named = [("annotations", pair) for pair in notes.items()] if isinstance(notes, dict) else []
    if "artifactType" in descriptor:
        named.append(("artifactType", descriptor["artifactType"]))
    return [line, *(f"{line} {_canonical(note)}" for note in named)]


def _first_of_each_platform(listed: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for descriptor in listed:
        if isinstance(descriptor.get("platform"), dict):
            found.setdefault(_canonical(descriptor["platform"]), str(descriptor.get("digest")))
    return found


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
