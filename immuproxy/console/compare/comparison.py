"""What changed from one manifest to another: platforms, layers, labels, annotations and how the image is run.  PURE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from immuproxy.console.manifests.document import KINDS, Descriptor, Document, whole_size
from immuproxy.console.manifests.image import ImageConfig, origin
from immuproxy.console.manifests.manifest import ImageDetails, Opened

SHARED, ADDED, REMOVED, CHANGED = "shared", "added", "removed", "changed"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: as it was asked for, opened, with what its image says."""

    asked: str
    opened: Opened
    image: ImageDetails = field(default_factory=ImageDetails)
    children: Mapping[str, Opened] = field(default_factory=dict)
    child_images: Mapping[str, ImageDetails] = field(default_factory=dict)

    @property
    def document(self) -> Document:
        """What its bytes say; nothing where they are not known."""
        return self.opened.document or Document("", 0)

    @property
    def images(self) -> dict[str, Descriptor]:
        """The images of an index by platform; by platform and number where several are for the same."""
        found: dict[str, Descriptor] = {}
        for part in self.document.images:
            name, number = part.platform or "no platform", 2
            while name in found:
                name, number = f"{part.platform or 'no platform'} ({number})", number + 1
            found[name] = part
        return found


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[dict[str, Any]]:
    """What is said differently, by name; ``before`` or ``after`` is None where it is not said."""
    return [
        {"name": name, "status": _status(name, before, after), "before": before.get(name), "after": after.get(name)}
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _status(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    return ADDED if name not in before else REMOVED if name not in after else CHANGED


def environment_changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[dict[str, Any]]:
    """The same of variables, whose values are not shown."""
    return [{"name": row["name"], "status": row["status"]} for row in changes(before, after)]


def layer_rows(before: Sequence[Descriptor], after: Sequence[Descriptor]) -> list[dict[str, Any]]:
    """Layers of both, lowest first: what went stands where it stood."""
    first, second = [part.digest for part in before], [part.digest for part in after]
    rows: list[dict[str, Any]] = []
    for what, i, j, k, m in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if what == "equal":
            rows += _rows(SHARED, after[k:m])
        else:
            rows += [*_rows(REMOVED, before[i:j]), *_rows(ADDED, after[k:m])]
    return rows


def _rows(status: str, parts: Iterable[Descriptor]) -> list[dict[str, Any]]:
    return [
        {"status": status, "digest": part.digest, "media_type": part.media_type, "size": part.size} for part in parts
    ]


def layer_sums(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """How many layers are shared, added and removed, and how many bytes they have."""
    found = {status: {"count": 0, "size": 0} for status in (SHARED, ADDED, REMOVED)}
    for row in rows:
        found[row["status"]]["count"] += 1
        found[row["status"]]["size"] += row["size"] or 0
    return found


def image_changes(before: Document, after: Document, images: tuple[ImageDetails, ImageDetails]) -> dict[str, Any]:
    """What changed from one image to another; ``images`` are what the two say of themselves."""
    rows = layer_rows(before.layers, after.layers)
    first, second = (image.config for image in images)
    known = first is not None and second is not None
    old, new = first or ImageConfig(), second or ImageConfig()
    return {
        "layers": rows,
        "sums": layer_sums(rows),
        "config_same": bool(before.config and after.config and before.config.digest == after.config.digest),
        "why_not": "" if known else _why_not(images),
        "fields": changes(_said(before, old), _said(after, new)) if known else [],
        "environment": environment_changes(old.environment, new.environment) if known else [],
        "labels": changes(old.labels, new.labels) if known else [],
        "annotations": changes(before.annotations, after.annotations),
    }


def _why_not(images: tuple[ImageDetails, ImageDetails]) -> str:
    return next((image.why_not for image in images if image.why_not), "")


def _said(document: Document, config: ImageConfig) -> dict[str, str]:
    said = {"platform": config.platform, "created": origin(document.annotations, config)["created_text"]}
    return {**config.fields, **{name: text for name, text in said.items() if text}}


@dataclass(frozen=True, slots=True)
class Pair:
    """The images of one platform in two indexes; None where one has none."""

    platform: str
    before: Descriptor | None
    after: Descriptor | None

    @property
    def status(self) -> str:
        """In a word."""
        if self.before is None or self.after is None:
            return ADDED if self.before is None else REMOVED
        return SHARED if self.before.digest == self.after.digest else CHANGED


def pairs(before: Side, after: Side) -> list[Pair]:
    """The images of two indexes by platform, in the order of the later one, then what went."""
    first, second = before.images, after.images
    return [Pair(name, first.get(name), second.get(name)) for name in dict.fromkeys([*second, *first])]


def _platform_row(pair: Pair, before: Side, after: Side) -> dict[str, Any]:
    row: dict[str, Any] = {
        "platform": pair.platform,
        "status": pair.status,
        "before": pair.before.digest if pair.before else None,
        "after": pair.after.digest if pair.after else None,
        "size_before": _child_size(before, pair.before),
        "size_after": _child_size(after, pair.after),
        "changes": None,
        "why_not": "",
    }
    if pair.status != CHANGED or pair.before is None or pair.after is None:
        return row
    old, new = before.children.get(pair.before.digest), after.children.get(pair.after.digest)
    if old is None or new is None:
        return row | {"why_not": "Only the first platforms that changed are compared in full."}
    if old.document is None or new.document is None:
        return row | {"why_not": old.why_not or new.why_not}
    images = (
        before.child_images.get(pair.before.digest, ImageDetails()),
        after.child_images.get(pair.after.digest, ImageDetails()),
    )
    return row | {"changes": image_changes(old.document, new.document, images)}


def _child_size(side: Side, part: Descriptor | None) -> int | None:
    opened = side.children.get(part.digest) if part else None
    return whole_size(opened.document, {}) if opened and opened.document else None


def _side_dict(side: Side) -> dict[str, Any]:
    document, opened = side.document, side.opened
    children = {digest: child.document for digest, child in side.children.items() if child.document}
    said = origin(document.annotations, side.image.config)
    return {
        "asked": side.asked,
        "repository": opened.repository,
        "digest": opened.digest,
        "kind": KINDS.get(document.media_type, ""),
        "is_index": document.is_index,
        "size": whole_size(document, children) if opened.document else None,
        "platforms": list(side.images) if document.is_index else [],
        "created": said["created"],
        "revision": said["revision"],
        "version": said["version"],
        "why_not": opened.why_not,
    }


def comparison_context(before: Side, after: Side) -> dict[str, Any]:
    """What changed from ``before`` to ``after``; the sides say what is not known of them."""
    same = before.opened.digest == after.opened.digest
    known = before.opened.document is not None and after.opened.document is not None
    indexes = before.document.is_index, after.document.is_index
    rows = [_platform_row(pair, before, after) for pair in pairs(before, after)] if known and all(indexes) else []
    image = (
        image_changes(before.document, after.document, (before.image, after.image))
        if known and not any(indexes)
        else None
    )
    return {
        "before": _side_dict(before),
        "after": _side_dict(after),
        "same": same,
        "known": known,
        "comparable": known and indexes[0] == indexes[1],
        "platforms": rows,
        "image": image,
        "annotations": changes(before.document.annotations, after.document.annotations) if all(indexes) else [],
        "sentence": _sentence(same=same, known=known, rows=rows, image=image, indexes=indexes),
    }


def _sentence(
    *,
    same: bool,
    known: bool,
    rows: Sequence[Mapping[str, Any]],
    image: Mapping[str, Any] | None,
    indexes: tuple[bool, bool],
) -> str:
    if same:
        return "Both are the same manifest."
    if not known:
        return "The two differ. What is inside is not known of both, so what changed is not either."
    if rows:
        return _listed({status: sum(row["status"] == status for row in rows) for status in _ORDER}, "platform")
    if image:
        return _listed({status: sums["count"] for status, sums in image["sums"].items()}, "layer")
    if indexes[0] != indexes[1]:
        return "One is an index of several platforms, the other a single image: choose a platform of the index."
    return "Neither lists a platform."


_ORDER = (CHANGED, ADDED, REMOVED, SHARED)


def _listed(counts: Mapping[str, int], what: str) -> str:
    """``2 layers added, 1 removed, 5 shared.``"""
    said = [(status, counts.get(status, 0)) for status in _ORDER if counts.get(status)]
    if not said:
        return f"There is no {what} in either."
    (status, number), *rest = said
    first = f"{number} {what}{'' if number == 1 else 's'} {status}"
    return ", ".join([first, *(f"{number} {status}" for status, number in rest)]) + "."
