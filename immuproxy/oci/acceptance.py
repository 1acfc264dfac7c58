"""What no registry takes.  Pure.

The registry answers some of it with 500, after which a tag has to be kept for the content that may yet arrive (H62):
it is refused before anything is claimed for it (H93).  Only what distribution 2.8 and 3 both refuse counts; all else is
theirs to judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from immuproxy.oci import names

SCHEMA_VERSION = 2
"""Image specification, "Image Manifest" and "Image Index": ``schemaVersion``."""

_SHOWN = 100


def fault(document: Mapping[str, Any], *, is_index: bool) -> str:
    """Why no registry takes the manifest, in words for its pusher; empty where one may."""
    version = document.get("schemaVersion")
    if type(version) is not int or version != SCHEMA_VERSION:
        return "a manifest has a schemaVersion of 2"
    if not is_index and not _describes(document.get("config")):
        return "an image manifest has a config with a digest"
    for digest in _named(document, is_index=is_index):
        if not names.ANY_DIGEST.fullmatch(digest):
            return f"{digest[:_SHOWN]!r} is no digest of sha256, sha384 or sha512"
    return ""


def _describes(config: Any) -> bool:
    return isinstance(config, dict) and isinstance(config.get("digest"), str) and bool(config["digest"])


def _named(document: Mapping[str, Any], *, is_index: bool) -> Iterator[str]:
    """The digests that a registry looks up; what is stored elsewhere it does not (``urls``)."""
    listed = document.get("manifests" if is_index else "layers")
    found = listed if isinstance(listed, list) else []
    for descriptor in found if is_index else [document.get("config"), *found]:
        if isinstance(descriptor, dict) and "urls" not in descriptor and isinstance(descriptor.get("digest"), str):
            yield descriptor["digest"]
