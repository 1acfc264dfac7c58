"""Manifests by digest, in memory: the ledger's own copies, which are read once and never change.

What a tag holds is never read here, and neither is who may pull it.
"""

from __future__ import annotations

from cachetools import LRUCache

from immuproxy.edge.look import Looks
from immuproxy.ledger.model import StoredManifest
from immuproxy.ledger.reader import Place
from immuproxy.ledger.register import Register
from immuproxy.oci.manifests import MEDIA_TYPES
from immuproxy.oci.names import is_digest_of
from immuproxy.store.redis import LedgerUnavailableError

MOST_BYTES = 32 * 1024 * 1024
"""Of all bodies together, each with `OVERHEAD`: some ten thousand manifests of the usual size."""

OVERHEAD = 1024
"""Bytes that a manifest takes beside its body: names, the objects themselves, its place in the memory."""

READ_AT_ONCE = 4
"""Manifests that are read together; each may have four MiB."""


class ManifestMemory:
    """Those that were asked for last."""

    def __init__(self, register: Register, *, most: int = MOST_BYTES) -> None:
        """Filled from ``register``; ``most`` in bytes."""
        self._kept: LRUCache[Place, StoredManifest] = LRUCache(most, getsizeof=_size)
        self._looks = Looks(register.stored_at, most=READ_AT_ONCE, shard=register.node_of)

    async def of(self, repository: str, digest: str) -> StoredManifest | None:
        """The manifest; None where the ledger gives no copy of it, or none whose bytes tell its digest (H17)."""
        place = (repository, digest)
        kept = self._kept.get(place)
        return kept or await self._read(place)

    async def _read(self, place: Place) -> StoredManifest | None:
        try:
            found = await self._looks.at(place)
        except LedgerUnavailableError:
            return None
        if found is None or found.media_type not in MEDIA_TYPES or not is_digest_of(found.digest, found.body):
            return None
        if _size(found) <= self._kept.maxsize:
            self._kept[place] = found
        return found


def _size(manifest: StoredManifest) -> int:
    return len(manifest.body) + OVERHEAD
