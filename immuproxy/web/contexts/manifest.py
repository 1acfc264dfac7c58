"""A manifest: what is in it, and which tags point or pointed to it.  PURE."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from immuproxy.ledger.model import Event, StoredManifest, TagRecord
from immuproxy.oci import manifests
from immuproxy.oci.errors import OciError

_KINDS = {
    manifests.OCI_INDEX: "index (several platforms)",
    manifests.DOCKER_LIST: "index (several platforms), in Docker's form",
    manifests.OCI_MANIFEST: "image",
    manifests.DOCKER_MANIFEST: "image, in Docker's form",
}


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _platform(entry: Mapping[str, Any]) -> str:
    platform = entry.get("platform")
    if not isinstance(platform, dict):
        return ""
    return "/".join(filter(None, (_text(platform.get(key)) for key in ("os", "architecture", "variant"))))


def _part(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "digest": _text(entry.get("digest")),
        "media_type": _text(entry.get("mediaType")),
        "size": _number(entry.get("size")),
        "platform": _platform(entry),
        "annotations": _annotations(entry),
    }


def _annotations(entry: Mapping[str, Any]) -> dict[str, str]:
    found = entry.get("annotations")
    return {str(key): _text(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _inside(stored: StoredManifest | None) -> dict[str, Any]:
    """What the stored bytes say; all empty where none are stored."""
    document = json.loads(stored.body) if stored else {}
    config = document.get("config")
    subject = document.get("subject")
    return {
        "children": [_part(entry) for entry in _objects(document.get("manifests"))],
        "layers": [_part(entry) for entry in _objects(document.get("layers"))],
        "config": _part(config) if isinstance(config, dict) else None,
        "subject": _text(subject.get("digest")) if isinstance(subject, dict) else "",
        "artifact_type": _text(document.get("artifactType")),
        "annotations": _annotations(document),
    }


def _size_and_platforms(stored: StoredManifest | None, events: Iterable[Event]) -> tuple[int | None, list[str]]:
    if stored:
        try:
            read = manifests.read(stored.body, stored.media_type)
        except OciError:
            pass  # stored by a release that read manifests otherwise: the events know
        else:
            return read.size, list(read.platforms)
    told = next((event for event in events if event.size is not None), None)
    return (told.size, list(told.platforms)) if told else (None, [])


def _tags(digest: str, records: Sequence[TagRecord]) -> list[dict[str, Any]]:
    """The tags that its pushes named, those that hold it now first."""
    rows = [
        {"tag": record.tag, "now": record.committed is not None and record.committed.digest == digest}
        for record in records
    ]
    return sorted(rows, key=lambda row: (not row["now"], row["tag"]))


def manifest_context(
    repository: str,
    digest: str,
    stored: StoredManifest | None,
    events: Sequence[Event],
    records: Sequence[TagRecord],
) -> dict[str, Any]:
    """``events`` speak of the digest, newest first; ``records`` are those of the tags that they name."""
    media_type = stored.media_type if stored else next((event.media_type for event in events if event.media_type), "")
    size, platforms = _size_and_platforms(stored, [event for event in events if event.digest == digest])
    return {
        "repository": repository,
        "digest": digest,
        "stored": stored is not None,
        "media_type": media_type,
        "kind": _KINDS.get(media_type, ""),
        "bytes": len(stored.body) if stored else None,
        "size": size,
        "platforms": platforms,
        **_inside(stored),
        "tags": _tags(digest, records),
        "events": [event.to_dict() for event in events],
    }
