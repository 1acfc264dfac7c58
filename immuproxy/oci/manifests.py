"""Reading the body of a manifest: its digest, its kind, and every digest that it needs.

The registry's JSON reader (Go) takes keys in any case and the last of duplicate keys, Python's does neither.  So a
document that the two would read differently is refused, and the closure is not read from known fields: every string
of the document that is a digest counts as needed (H75).  A superset only keeps a blob that could have gone; a miss would
let a tag become unpullable.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from immuproxy.oci import errors, names

MAX_MANIFEST_BYTES = 4 * 1024 * 1024
"""Bytes of a manifest body, the registry's own limit (H18)."""

MAX_DEPTH = 64
"""Nesting of arrays and objects; real manifests have five levels."""

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MEDIA_TYPES = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)
"""The four manifest types; a probe accepts all of them, or the registry hides what it has (H23)."""

INDEX_TYPES = frozenset({DOCKER_LIST, OCI_INDEX})
ACCEPT_ALL = ", ".join(MEDIA_TYPES)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as received.

    ``needs`` is every digest that the document names, apart from its own ``subject`` (a referrer may be pushed before
    what it refers to).  ``entries`` is what an append-only tag must keep: the digests an index lists, or an image's
    layers.  ``size`` is the manifest with all it describes, in bytes.
    """

    body: bytes
    digest: str
    media_type: str
    needs: frozenset[str]
    entries: tuple[str, ...]
    children: tuple[str, ...]
    config: str
    platforms: tuple[str, ...]
    annotations: Mapping[str, str]
    subject: str
    size: int

    @property
    def is_index(self) -> bool:
        """Whether the manifest lists other manifests."""
        return self.media_type in INDEX_TYPES


def media_type_of(content_type: str) -> str:
    """The bare media type of a ``Content-Type`` header: lower case, no parameters (H17)."""
    return content_type.partition(";")[0].strip().lower()


def read(body: bytes, content_type: str) -> Manifest:
    """Read a manifest body; raises `immuproxy.oci.errors.OciError`.

    ``body``: the raw bytes, at most `MAX_MANIFEST_BYTES`.  ``content_type``: the header's value; it must name one of the
    four types whose digest is that of the bytes.
    """
    if len(body) > MAX_MANIFEST_BYTES:
        raise errors.too_large(MAX_MANIFEST_BYTES)
    document = _document(body)
    media_type = media_type_of(content_type)
    if media_type not in MEDIA_TYPES:
        raise errors.unsupported_media_type(
            f"the manifest's media type {media_type or 'is missing'!r}; supported are {', '.join(MEDIA_TYPES)}"
        )
    listed = _objects(document.get("manifests")) if media_type in INDEX_TYPES else []
    layers = _objects(document.get("layers"))
    configs = _objects([document.get("config")])
    subject = _subject(document)
    entries = _digests(listed if media_type in INDEX_TYPES else layers)
    return Manifest(
        body=body,
        digest=names.digest_of(body),
        media_type=media_type,
        needs=frozenset(_needs(document)) - ({subject} - set(entries)),
        entries=entries,
        children=_digests(listed),
        config=next(iter(_digests(configs)), ""),
        platforms=tuple(dict.fromkeys(filter(None, map(_platform, listed)))),
        annotations=_annotations(document),
        subject=subject,
        size=len(body) + sum(map(_size, [*configs, *layers, *listed])),
    )


def _document(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_Object)
    except (ValueError, RecursionError) as error:
        raise errors.bad_manifest(f"the manifest is no valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise errors.bad_manifest("the manifest must be a JSON object")
    _refuse_misspelt(document)
    return document


def _refuse_misspelt(value: Any, depth: int = 0) -> None:
    """Annotations may have any keys; all else has the specification's, in its spelling."""
    if depth > MAX_DEPTH:
        raise errors.bad_manifest(f"the manifest is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for key, inner in value.items():
            if key.casefold() in _KEYS and key not in _KEYS and key not in _SPELLED:
                raise errors.bad_manifest(f"the manifest has a key {key!r}; it is spelt differently")
            if key != "annotations":
                _refuse_misspelt(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _refuse_misspelt(inner, depth + 1)


def _refuse_constant(name: str) -> Any:
    message = f"{name} is no JSON number"
    raise ValueError(message)


_KEYS = frozenset(
    {
        "annotations",
        "architecture",
        "artifacttype",
        "config",
        "data",
        "digest",
        "layers",
        "manifests",
        "mediatype",
        "os",
        "platform",
        "schemaversion",
        "size",
        "subject",
        "urls",
        "variant",
    }
)
"""Keys of the image specification, folded; another spelling of one of them reads differently in Go (H75)."""

_SPELLED = frozenset({"artifactType", "mediaType", "schemaVersion"})


class _Object(dict[str, Any]):
    """A JSON object without duplicate keys (H75)."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        if len(self) != len(pairs):
            message = "an object has the same key twice"
            raise ValueError(message)


def _needs(value: Any) -> Iterator[str]:
    """Every string in the document that is a digest, keys included."""
    if isinstance(value, str):
        if names.ANY_DIGEST.fullmatch(value):
            yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _needs(key)
            yield from _needs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _needs(inner)


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _digests(descriptors: list[dict[str, Any]]) -> tuple[str, ...]:
    found = (descriptor.get("digest") for descriptor in descriptors)
    return tuple(
        dict.fromkeys(digest for digest in found if isinstance(digest, str) and names.ANY_DIGEST.fullmatch(digest))
    )


def _subject(document: Mapping[str, Any]) -> str:
    subject = document.get("subject")
    found = _digests([subject]) if isinstance(subject, dict) else ()
    return found[0] if found else ""


def _platform(descriptor: dict[str, Any]) -> str:
    platform = descriptor.get("platform")
    if not isinstance(platform, dict):
        return ""
    parts = (platform.get("os"), platform.get("architecture"), platform.get("variant"))
    return "/".join(part for part in parts if isinstance(part, str) and part)


def _size(descriptor: dict[str, Any]) -> int:
    size = descriptor.get("size")
    return size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else 0


def _annotations(document: Mapping[str, Any]) -> Mapping[str, str]:
    found = document.get("annotations")
    pairs = found.items() if isinstance(found, dict) else ()
    return MappingProxyType({key: value for key, value in pairs if isinstance(value, str)})


def describe(body: bytes, content_type: str) -> Manifest:
    """Read what can be read of any body, refusing nothing: for pushes that are recorded but not guarded."""
    try:
        return read(body, content_type)
    except errors.OciError:
        return Manifest(
            body=body,
            digest=names.digest_of(body),
            media_type=media_type_of(content_type),
            needs=frozenset(names.DIGEST_IN_TEXT.findall(body.decode("latin-1"))),
            entries=(),
            children=(),
            config="",
            platforms=(),
            annotations=MappingProxyType({}),
            subject="",
            size=len(body),
        )


def config_labels(config: bytes) -> Mapping[str, str]:
    """The labels in an image's config blob (OCI image specification, "Image Configuration": ``config.Labels``)."""
    try:
        document = json.loads(config)
    except (ValueError, RecursionError):
        return {}
    inner = document.get("config") if isinstance(document, dict) else None
    labels = inner.get("Labels") if isinstance(inner, dict) else None
    pairs = labels.items() if isinstance(labels, dict) else ()
    return MappingProxyType({key: value for key, value in pairs if isinstance(value, str)})
