"""What a tag is to hold, as the steps of the register are told it."""

from __future__ import annotations

from dataclasses import dataclass

from immuproxy.ledger.model import StoredManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a tag is to hold: the digest, every digest it needs (its own included), and manifests' bytes.

    ``stored`` are the manifests that are written by the step that makes the tag hold it, ``apart`` the digests of those
    that `Register.keep` is called for one by one.  ``blobs`` are what cannot be missing from the registry.
    ``missing``: the children that the upstream did not have (H91).  ``unresolved``: the blobs of which it did not say
    by which digest it keeps them (H81).
    """

    digest: str
    needs: frozenset[str]
    missing: frozenset[str] = frozenset()
    unresolved: frozenset[str] = frozenset()
    stored: tuple[StoredManifest, ...] = ()
    apart: tuple[str, ...] = ()
    blobs: tuple[str, ...] = ()
    media_type: str = ""
    size: int = 0
    platforms: tuple[str, ...] = ()
