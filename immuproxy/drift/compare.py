"""What the ledger holds beside what the upstream shows -> what is wrong.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from immuproxy.ledger.model import TagRecord

_NOT_FOUND = 404


class Discrepancy(StrEnum):
    """What can be wrong with a tag, a manifest or a blob at the upstream."""

    MOVED = "moved"
    MISSING = "missing"
    UNREADABLE = "unreadable"


class ContentKind(StrEnum):
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

    problem: Discrepancy
    part: ContentKind
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
        return Fault(Discrepancy.MOVED, ContentKind.TAG, held, f"the upstream shows {seen.digest}")
    return _absence(ContentKind.TAG, held, seen)


def manifest_fault(digest: str, seen: Seen) -> Fault | None:
    """What is wrong with a manifest that was asked for by its digest."""
    if seen.digest and seen.digest != digest:
        return Fault(
            Discrepancy.UNREADABLE, ContentKind.MANIFEST, digest, f"the upstream sends the bytes of {seen.digest}"
        )
    return _absence(ContentKind.MANIFEST, digest, seen)


def blob_fault(digest: str, seen: Seen) -> Fault | None:
    """What is wrong with a blob; 200 stands for a first byte that was read."""
    return _absence(ContentKind.BLOB, digest, seen)


def _absence(part: ContentKind, digest: str, seen: Seen) -> Fault | None:
    if seen.failure:
        return Fault(Discrepancy.UNREADABLE, part, digest, seen.failure)
    if seen.status == _NOT_FOUND:
        return Fault(Discrepancy.MISSING, part, digest, f"the upstream does not give out this {part.value}")
    if not seen.digest and part is not ContentKind.BLOB:
        reason = f"the upstream answered {seen.status}: immuproxy may not look (upstream.username)"
        return Fault(Discrepancy.UNREADABLE, part, digest, reason)
    return None
