"""Manifests and configs opened: from the ledger where it keeps them, else from the registry.

The registry is read as the proxy's own account, and only by digests that the proxy knows in that repository: from a
push, from a held tag that needs it, or from the index that lists it.  So nobody can read here what never passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from immuproxy.console.manifests.contents import Bytes
from immuproxy.console.manifests.document import Descriptor, Document, read_document
from immuproxy.console.manifests.image import MOST_CONFIG, read_config
from immuproxy.console.manifests.manifest import ImageDetails, Opened
from immuproxy.console.sources import Sources
from immuproxy.ledger.model import StoredManifest

MOST_CHILDREN = 100
"""Children of one index that are opened."""

LARGEST_CHILD = 256 * 1024
"""Bytes of a manifest that is opened for its parent's sake; real ones have some thousand."""

_UNREADABLE = "Its bytes are no manifest that could be read."


async def open_manifest(sources: Sources, repository: str, digest: str, stored: StoredManifest | None = None) -> Opened:
    """A manifest that the proxy knows; ``stored`` is what the ledger keeps of it, where the caller has that."""
    if stored is None:
        stored = await sources.register.stored(repository, digest)
    if stored is not None:
        return _opened(repository, digest, Bytes(stored.body, stored.media_type), stored=True)
    return _opened(repository, digest, await sources.contents.manifest(repository, digest), stored=False)


def _opened(repository: str, digest: str, content: Bytes, *, stored: bool) -> Opened:
    if content.why_not:
        return Opened(repository, digest, why_not=content.why_not)
    document = read_document(content.body, content.media_type)
    return Opened(repository, digest, document, stored, "" if document else _UNREADABLE)


async def stored_children(sources: Sources, repository: str, document: Document | None) -> dict[str, Document]:
    """Those children of an index that the ledger keeps."""
    children = document.children[:MOST_CHILDREN] if document else ()
    wanted = [child.digest for child in children if child.size is not None and child.size <= LARGEST_CHILD]
    found = await sources.register.stored_many(repository, wanted)
    read = {digest: read_document(stored.body, stored.media_type) for digest, stored in found.items()}
    return {digest: document for digest, document in read.items() if document}


async def open_children(sources: Sources, repository: str, children: Sequence[Descriptor]) -> dict[str, Opened]:
    """Children of an index that was opened, from wherever they are."""
    found = await asyncio.gather(*(open_manifest(sources, repository, child.digest) for child in children))
    return {opened.digest: opened for opened in found}


async def open_image(sources: Sources, repository: str, document: Document | None, *, of: str = "") -> ImageDetails:
    """What an image says of itself, as far as it can be read."""
    if document is None or not document.is_image or document.config is None:
        return ImageDetails(of=of)
    config = document.config
    if config.size is not None and config.size > MOST_CONFIG:
        return ImageDetails(None, f"Its config is larger than {MOST_CONFIG // 1024} KiB.", of)
    content = await sources.contents.config(repository, config.digest)
    if content.why_not:
        return ImageDetails(None, content.why_not, of)
    read = read_config(content.body) if len(content.body) <= MOST_CONFIG else None
    return ImageDetails(read, "" if read else "Its config could not be read.", of)


async def open_image_of_any(sources: Sources, opened: Opened, known: dict[str, Document]) -> ImageDetails:
    """As `open_image`; of an index what its first image says, which speaks for all of them as a rule."""
    document = opened.document
    if document is None or not document.is_index:
        return await open_image(sources, opened.repository, document)
    first = next(iter(document.images), None)
    if first is None:
        return ImageDetails()
    child = known.get(first.digest)
    if child is None:
        child = (await open_manifest(sources, opened.repository, first.digest)).document
    return await open_image(sources, opened.repository, child, of=first.platform or first.digest)
