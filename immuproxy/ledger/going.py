"""What the steps of a delete are told: what was judged, and which tags go with it."""

from __future__ import annotations

from dataclasses import dataclass

from immuproxy.ledger.model import Event


@dataclass(frozen=True, slots=True)
class GoneTag:
    """A tag that a delete takes away, the digest it held, and whether its name stays taken.

    ``event`` tells of it, where it is not the tag that the delete itself names (H100); ``cut_off`` ends the overwrite
    of it that is armed, if one is (H101).
    """

    name: str
    digest: str
    tombstone: bool
    event: Event | None = None
    cut_off: Event | None = None


@dataclass(frozen=True, slots=True)
class MovedTag:
    """As `GoneTag`, of a tag that no rule holds; ``digest`` is empty where it does not matter which one it held."""

    name: str
    digest: str = ""
    event: Event | None = None


@dataclass(frozen=True, slots=True)
class Permit:
    """A tag that only an exception lets go: the digest by which that was judged, and the event that granted it."""

    tag: str
    digest: str
    event: str


@dataclass(frozen=True, slots=True)
class Adoption:
    """What the ledger was when the tags of a repository began to be adopted.

    ``lineage``: of the whole ledger (H105); ``part``: of the repository's part of it, and of its server (H106).
    """

    lineage: str
    part: str


class OverwriteArmedError(Exception):
    """A tag that goes is being overwritten, and the caller did not know by which push."""
