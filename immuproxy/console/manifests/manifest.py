"""A manifest: what is in it, what refers to it, and which tags point or pointed to it.  PURE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from immuproxy.console.manifests.document import KINDS, Descriptor, Document, whole_size
from immuproxy.console.manifests.image import ImageConfig, image_dict, origin
from immuproxy.console.manifests.referrers import About, about_dict
from immuproxy.ledger.model import Event, TagRecord


@dataclass(frozen=True, slots=True)
class Opened:
    """A manifest as far as it could be opened.

    ``document`` is None where its bytes are not known; ``why_not`` says why.  ``stored``: the ledger keeps the bytes.
    """

    repository: str
    digest: str
    document: Document | None = None
    stored: bool = False
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class ImageDetails:
    """What an image says of itself; ``of`` is the platform it is of where the manifest is an index, and ``why_not``
    says why ``config`` is not known.
    """

    config: ImageConfig | None = None
    why_not: str = ""
    of: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What else is known of a manifest.

    ``events`` speak of the digest, newest first; ``records`` are those of the tags that they name, ``holding`` the tags
    that hold it now.  ``needed`` counts the held tags of which it is a part, as the child of an index.
    """

    events: Sequence[Event] = ()
    records: Sequence[TagRecord] = ()
    holding: Sequence[str] = ()
    needed: int = 0
    children: Mapping[str, Document] = field(default_factory=dict)
    about: Sequence[About] = ()


def _told(events: Iterable[Event]) -> tuple[str, int | None, list[str]]:
    """Media type, size and platforms as the pushes told them."""
    known = list(events)
    sized = next((event for event in known if event.size is not None), None)
    media_type = next((event.media_type for event in known if event.media_type), "")
    return media_type, sized.size if sized else None, list(sized.platforms) if sized else []


def _tags(digest: str, around: Around) -> list[dict[str, Any]]:
    """The tags that its pushes named or that hold it, those that hold it now first."""
    now = set(around.holding)
    now |= {record.tag for record in around.records if record.committed and record.committed.digest == digest}
    # A record says what the tag holds, whatever the last event of it said.
    now -= {record.tag for record in around.records if record.committed and record.committed.digest != digest}
    names = now | {record.tag for record in around.records}
    return [{"tag": name, "now": name in now} for name in sorted(names, key=lambda name: (name not in now, name))]


def _child(part: Descriptor, siblings: Mapping[str, Descriptor], known: Mapping[str, Document]) -> dict[str, Any]:
    """A child with the size of what it describes, and of an attestation the platform that it is about."""
    document, sibling = known.get(part.digest), siblings.get(part.attests)
    return part.to_dict() | {
        "whole_size": whole_size(document, {}) if document and not document.is_index else None,
        "attests": (sibling.platform or sibling.digest) if sibling else part.attests,
    }


def _inside(document: Document | None, children: Mapping[str, Document]) -> dict[str, Any]:
    """What the bytes say; all empty where they are not known."""
    if document is None:
        document = Document("", 0)
    siblings = {child.digest: child for child in document.children}
    return {
        "children": [_child(child, siblings, children) for child in document.children],
        "children_total": document.children_total,
        "layers": [layer.to_dict() for layer in document.layers],
        "layers_total": document.layers_total,
        "config": document.config.to_dict() if document.config else None,
        "subject": document.subject,
        "artifact_type": document.artifact_type,
        "annotations": dict(document.annotations),
    }


def _kind(document: Document | None, media_type: str) -> str:
    if document is None or document.is_index or document.is_image:
        return KINDS.get(media_type, "")
    return f"artifact ({document.artifact_type})" if document.artifact_type else "artifact"


def _platforms(document: Document | None, image: ImageDetails, told: list[str]) -> list[str]:
    if document is None:
        return told
    if document.is_index:
        return list(dict.fromkeys(child.platform for child in document.images if child.platform))
    return [image.config.platform] if image.config and image.config.platform else told


def _image(opened: Opened, image: ImageDetails) -> dict[str, Any] | None:
    """What it says of itself; None for what is no image and says nothing."""
    document = opened.document
    if document is None or not (document.is_image or document.is_index or document.annotations):
        return None
    config = image.config
    return {
        "of": image.of,
        "why_not": image.why_not,
        "origin": origin(document.annotations, config),
        **image_dict(config or ImageConfig()),
    }


def manifest_context(opened: Opened, image: ImageDetails, around: Around) -> dict[str, Any]:
    """All that is known of a manifest."""
    digest, document = opened.digest, opened.document
    told_type, told_size, told_platforms = _told(event for event in around.events if event.digest == digest)
    media_type = document.media_type if document else told_type
    size = whole_size(document, around.children) if document else told_size
    return {
        "repository": opened.repository,
        "digest": digest,
        "stored": opened.stored,
        "why_not": opened.why_not,
        "media_type": media_type,
        "kind": _kind(document, media_type),
        "bytes": document.length if document else None,
        "size": size,
        "platforms": _platforms(document, image, told_platforms),
        **_inside(document, around.children),
        "image": _image(opened, image),
        "about": [about_dict(each) for each in around.about],
        "tags": _tags(digest, around),
        "needed": around.needed,
        "events": [event.to_dict() for event in around.events],
    }
