"""Reading the body of a manifest: its digest, its kind, and every digest that it needs.

The registry's JSON reader (Go) takes keys in any case and the last of duplicate keys, Python's does neither.  So a
document that the two would read differently is refused, and the closure is not read from known fields: every string
of the document that is a digest counts as needed (H75).  A superset only keeps a blob that could have gone; a miss
would let a tag become unpullable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from immuproxy.oci import acceptance, errors, names

MAX_MANIFEST_BYTES = 4 * 1024 * 1024
"""Bytes of a manifest body, the registry's own limit (H18)."""

MAX_DEPTH = 64
"""Nesting of arrays and objects; real manifests have five levels."""

MAX_PARTS = 20_000
"""Brackets, braces and commas in a manifest's text: a little more than it has values.  An image with the most layers
that a container runtime takes, and ten annotations for each, has a tenth of it.  Each costs about a microsecond that
others wait for (H90).
"""

MAX_PLATFORMS = 100
MAX_PLATFORM_LENGTH = 64
MAX_SHOWN = 256
"""Limits of what is kept for people to read: platforms, characters of one, characters of a media type."""

MAX_SIZE = 2**53 - 1
"""Bytes; the largest number that every reader of an event takes for itself."""

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MEDIA_TYPES = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)
"""The four manifest types; a probe accepts all of them, or the registry hides what it has (H23)."""

INDEX_TYPES = frozenset({DOCKER_LIST, OCI_INDEX})
IMAGE_CONFIGS = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)
"""The media types of a config that describes an image, in both forms."""

EMPTY_BLOB = names.digest_of(b"")
"""Has no first byte that could be read, and nothing that could be lost."""

ACCEPT_ALL = ", ".join(MEDIA_TYPES)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as received.

    ``needs`` is every digest that the document names, apart from its own ``subject`` (a referrer may be pushed before
    what it refers to).  ``entries`` is what an append-only tag must keep: the digests an index lists, or an image's
    layers.  ``size`` is the manifest with all it describes, in bytes.  ``fault`` is why no registry takes it, or empty
    (`immuproxy.oci.acceptance`).  ``otherwise`` are those of the ``children`` that are listed with the media type of no
    manifest, as the layers are in an index by which BuildKit keeps its cache.  ``config_type`` and ``config_size`` are
    the media type and the bytes that the document says of its ``config``.
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
    fault: str = ""
    otherwise: frozenset[str] = frozenset()
    config_type: str = ""
    config_size: int = 0

    @property
    def is_image(self) -> bool:
        """Whether its config is that of an image, not of an artifact in an image's form."""
        return bool(self.config) and self.config_type in IMAGE_CONFIGS

    @property
    def is_index(self) -> bool:
        """Whether the manifest lists other manifests."""
        return self.media_type in INDEX_TYPES


def media_type_of(content_type: str) -> str:
    """The bare media type of a ``Content-Type`` header: lower case, no parameters (H17)."""
    return content_type.partition(";")[0].strip().lower()


def read(body: bytes, content_type: str) -> Manifest:
    """Read a manifest body; raises `immuproxy.oci.errors.OciError`.

    ``body``: the raw bytes, at most `MAX_MANIFEST_BYTES`.  ``content_type``: the header's value; it must name one of
    the four types whose digest is that of the bytes.
    """
    if len(body) > MAX_MANIFEST_BYTES:
        raise errors.too_large(MAX_MANIFEST_BYTES)
    media_type = _supported(content_type)
    document = _document(body)
    needs = _checked_digests({key: value for key, value in document.items() if key != "subject"})
    _checked_digests({"subject": document.get("subject")})
    listed = _objects(document.get("manifests")) if media_type in INDEX_TYPES else []
    layers = _objects(document.get("layers"))
    configs = _objects([document.get("config")])
    return Manifest(
        body=body,
        digest=names.digest_of(body),
        media_type=media_type,
        needs=needs,
        entries=_digests(listed if media_type in INDEX_TYPES else layers),
        children=_digests(listed),
        config=next(iter(_digests(configs)), ""),
        platforms=tuple(dict.fromkeys(filter(None, map(_platform, listed))))[:MAX_PLATFORMS],
        annotations=_annotations(document),
        subject=_subject(document),
        size=min(len(body) + sum(map(_size, [*configs, *layers, *listed])), MAX_SIZE),
        otherwise=_otherwise(listed),
        config_type=_config_type(configs),
        config_size=sum(map(_size, configs)),
        fault=acceptance.fault(document, is_index=media_type in INDEX_TYPES),
    )


def _supported(content_type: str) -> str:
    media_type = media_type_of(content_type)
    if media_type in MEDIA_TYPES:
        return media_type
    fault = f"the media type {media_type[:MAX_SHOWN]!r} is not supported" if media_type else "the media type is missing"
    raise errors.unsupported_media_type(f"{fault}; a manifest here has one of {', '.join(MEDIA_TYPES)}")


def _document(body: bytes) -> dict[str, Any]:
    if has_too_many_parts(body):
        raise errors.bad_manifest(f"the manifest holds more than {MAX_PARTS} brackets and commas")
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_object)
        if _SURROGATE_ESCAPE.search(body):
            json.dumps(document, ensure_ascii=False).encode()  # fails on half of a pair, which Go would replace
    except (ValueError, RecursionError) as error:
        raise errors.bad_manifest(f"the manifest is no valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise errors.bad_manifest("the manifest must be a JSON object")
    return document


def has_too_many_parts(body: bytes) -> bool:
    """Whether a JSON text is built to cost the time of everybody who waits for it to be read (H90)."""
    return body.count(b"{") + body.count(b"[") + body.count(b",") > MAX_PARTS


def _checked_digests(document: dict[str, Any]) -> frozenset[str]:
    """Every string of the document that is a digest; refuses bottomless nesting and misspelt keys.

    Annotations may have any keys; all else has the specification's, in its spelling.  Without recursion and only from
    container to container: nesting and size are the client's choice.
    """
    found: list[str] = []
    left: list[tuple[Any, int, str]] = [(document, 0, "")]
    while left:
        container, depth, inside = left.pop()
        if depth > MAX_DEPTH:
            raise errors.bad_manifest(f"the manifest is nested deeper than {MAX_DEPTH} levels")
        if isinstance(container, list):
            found += _texts(container)
            left += [(value, depth + 1, inside) for value in container if isinstance(value, _CONTAINERS)]
            continue
        found += _texts(container)
        found += _texts(container.values())
        left += [(value, depth + 1, key) for key, value in container.items() if isinstance(value, _CONTAINERS)]
        if inside != "annotations":
            _refuse_misspelt(container)
    return frozenset(text for text in found if names.ANY_DIGEST.fullmatch(text))


_CONTAINERS = (dict, list)


def _texts(values: Iterable[Any]) -> list[str]:
    """Those that are long enough for a digest."""
    return [value for value in values if isinstance(value, str) and len(value) >= names.SHORTEST_DIGEST]


def _refuse_misspelt(keys: Iterable[str]) -> None:
    for key in keys:
        spelling = _KEYS.get(key.casefold(), key) if len(key) <= _LONGEST_KEY else key
        if key != spelling:
            raise errors.bad_manifest(f"the manifest has a key {key[:MAX_SHOWN]!r}; it must be {spelling!r}")


def required_blobs(manifest: Manifest) -> tuple[str, ...]:
    """The blobs without which the manifest cannot be pulled: config and layers, each once.

    Layers that are stored elsewhere are not among them: those of the image specification's "Non-Distributable Layers",
    and whatever has ``urls``.
    """
    if manifest.is_index:
        return ()
    elsewhere = _stored_elsewhere(manifest.body)
    blobs = dict.fromkeys((manifest.config, *manifest.entries))
    return tuple(blob for blob in blobs if blob and blob not in elsewhere and blob != EMPTY_BLOB)


def _stored_elsewhere(body: bytes) -> frozenset[str]:
    if not any(sign in body for sign in (b".foreign.", b".nondistributable.", b'"urls"')):
        return frozenset()
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return frozenset()
    layers = document.get("layers") if isinstance(document, dict) else None
    return frozenset(layer["digest"] for layer in _objects(layers) if _is_foreign(layer))


def _is_foreign(layer: Mapping[str, Any]) -> bool:
    kind = layer.get("mediaType")
    named = isinstance(kind, str) and (".foreign." in kind or ".nondistributable." in kind)
    return (named or bool(layer.get("urls"))) and isinstance(layer.get("digest"), str)


def _refuse_constant(name: str) -> Any:
    message = f"{name} is no JSON number"
    raise ValueError(message)


_SPELLINGS = """
    annotations architecture artifactType config data digest layers manifests mediaType os platform schemaVersion size
    subject urls variant
"""
_KEYS = {key.casefold(): key for key in _SPELLINGS.split()}
"""Keys of the image specification by their folded form; Go takes any other spelling of one for it (H75)."""

_LONGEST_KEY = max(map(len, _KEYS))
"""Folding makes no text shorter."""

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object without duplicate keys (H75)."""
    found = dict(pairs)
    if len(found) != len(pairs):
        message = "an object has the same key twice"
        raise ValueError(message)
    return found


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _digests(descriptors: list[dict[str, Any]]) -> tuple[str, ...]:
    found = (descriptor.get("digest") for descriptor in descriptors)
    return tuple(
        dict.fromkeys(digest for digest in found if isinstance(digest, str) and names.ANY_DIGEST.fullmatch(digest))
    )


def _otherwise(listed: list[dict[str, Any]]) -> frozenset[str]:
    """Where a digest is listed twice, the type of a manifest counts."""
    typed = [item for item in listed if isinstance(item.get("mediaType"), str)]
    others = [item for item in typed if media_type_of(item["mediaType"]) not in MEDIA_TYPES]
    return frozenset(_digests(others)) - frozenset(_digests([item for item in listed if item not in others]))


def _config_type(configs: list[dict[str, Any]]) -> str:
    named = [config.get("mediaType") for config in configs]
    return next((media_type_of(name) for name in named if isinstance(name, str)), "")


def _subject(document: Mapping[str, Any]) -> str:
    subject = document.get("subject")
    found = _digests([subject]) if isinstance(subject, dict) else ()
    return found[0] if found else ""


def _platform(descriptor: dict[str, Any]) -> str:
    platform = descriptor.get("platform")
    if not isinstance(platform, dict):
        return ""
    parts = (platform.get("os"), platform.get("architecture"), platform.get("variant"))
    return "/".join(part for part in parts if isinstance(part, str) and part)[:MAX_PLATFORM_LENGTH]


def _size(descriptor: dict[str, Any]) -> int:
    size = descriptor.get("size")
    return size if isinstance(size, int) and not isinstance(size, bool) and 0 < size <= MAX_SIZE else 0


def _annotations(document: Mapping[str, Any]) -> Mapping[str, str]:
    found = document.get("annotations")
    pairs = found.items() if isinstance(found, dict) else ()
    return MappingProxyType({key: value for key, value in pairs if isinstance(value, str)})


def could_be(content: bytes) -> bool:
    """Whether a blob could be a manifest, by whichever reader: an object with a schema version, or one that is built to
    cost time (H90).
    """
    if not content.lstrip(b" \t\r\n\xef\xbb\xbf").startswith(b"{"):
        return False
    try:
        document = {} if has_too_many_parts(content) else json.loads(content)
    except (ValueError, RecursionError):
        return False
    return not document or any(key.casefold() == "schemaversion" for key in document)


def describe(body: bytes, content_type: str) -> Manifest:
    """Read what can be read of any body, refusing nothing: for pushes that are recorded but not guarded.

    Of a body that `read` refuses, every digest that anybody could find in it counts as needed, and in an index as a
    child.
    """
    try:
        return read(body, content_type)
    except errors.OciError:
        media_type = media_type_of(content_type)
        needs = _needs_of_anything(body)
        return Manifest(
            body=body,
            digest=names.digest_of(body),
            media_type="".join(char for char in media_type if char.isprintable())[:MAX_SHOWN],
            needs=needs,
            entries=(),
            children=tuple(sorted(needs)) if media_type in INDEX_TYPES else (),
            config="",
            platforms=(),
            annotations=MappingProxyType({}),
            subject="",
            size=len(body),
        )


def _codes(character: str) -> set[str]:
    code = f"{ord(character):02x}"
    return {code, code.upper()}


def _needs_of_anything(body: bytes) -> frozenset[str]:
    """Digests as text, and those that show only once JSON's escapes are undone (H75)."""
    text = body.decode("latin-1")
    found = frozenset(names.DIGEST_IN_TEXT.findall(text))
    if "\\u00" not in text:
        return found
    for escape, character in _ESCAPES.items():
        text = text.replace(escape, character)
    return found | frozenset(names.DIGEST_IN_TEXT.findall(text))


_ESCAPES = {f"\\u00{code}": character for character in "sha:0123456789bcdef" for code in _codes(character)}
"""How JSON may spell the characters of a digest."""


def _config(config: bytes) -> Mapping[str, Any]:
    """An image's config blob; nothing where it is no JSON object, or built to cost time (H90)."""
    if has_too_many_parts(config):
        return {}
    try:
        document = json.loads(config)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def config_platform(config: bytes) -> str:
    """``os/architecture[/variant]`` of an image's config blob (OCI image specification, "Image Configuration").

    Empty where either is missing, or ``unknown`` as in BuildKit's attestations.
    """
    document = _config(config)
    system, architecture, variant = (document.get(key) for key in ("os", "architecture", "variant"))
    parts = [system, architecture, variant] if variant else [system, architecture]
    if any(not isinstance(part, str) or not _PLATFORM_PART.fullmatch(part) or part == "unknown" for part in parts):
        return ""
    return "/".join(map(str, parts))[:MAX_PLATFORM_LENGTH]


_PLATFORM_PART = re.compile(r"[A-Za-z0-9._-]+")


def config_labels(config: bytes) -> Mapping[str, str]:
    """The labels in an image's config blob (OCI image specification, "Image Configuration": ``config.Labels``)."""
    inner = _config(config).get("config")
    labels = inner.get("Labels") if isinstance(inner, dict) else None
    pairs = labels.items() if isinstance(labels, dict) else ()
    return MappingProxyType({key: value for key, value in pairs if isinstance(value, str)})
