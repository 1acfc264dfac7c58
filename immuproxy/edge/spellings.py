"""One content, several digests (H81).

docker/distribution keeps a blob by its sha256, and where it was uploaded by its sha512 it links it by both: who deletes
either takes the blob from those who know it by the other.  So whoever needs a blob by another algorithm needs it by the
digest that the registry keeps it by as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

from immuproxy.edge.caller import Caller
from immuproxy.edge.upstream import Upstream
from immuproxy.oci import names
from immuproxy.oci.manifests import Manifest

ASKED_AT_ONCE = 8
"""Blobs that the upstream is asked for at the same time."""

MOST = 1000
"""Blobs of one closure that it is asked for; real images have some tens, and name them by sha256."""


async def kept_as(upstream: Upstream, repository: str, named: Collection[str], caller: Caller) -> dict[str, str]:
    """Blobs that are named by another algorithm than sha256 -> by which digest the upstream keeps each; empty where it
    has none such, or does not say, and for those beyond `MOST`.

    Raises `UpstreamUnavailableError`.
    """
    blobs = sorted(named)
    found = dict.fromkeys(blobs, "")
    for at in range(0, min(len(blobs), MOST), ASKED_AT_ONCE):
        batch = blobs[at : min(at + ASKED_AT_ONCE, MOST)]
        digests = await asyncio.gather(*(upstream.blob_digest(repository, blob, caller) for blob in batch))
        found |= {blob: digest or "" for blob, digest in zip(batch, digests, strict=True)}
    return found


def named_otherwise(manifest: Manifest) -> Iterable[str]:
    """The blobs that a manifest names by another algorithm than sha256; every such digest of a document that cannot be
    read with certainty.
    """
    if manifest.is_index:
        return ()
    blobs = [manifest.config, *manifest.entries] if manifest.config or manifest.entries else sorted(manifest.needs)
    return (blob for blob in blobs if blob and not names.is_digest(blob))
