"""A manifest that comes after those who need it (H31, H91).

A tag may hold an index that lacks a child (a sparse index).  The child's digest is pinned from then on, but what it
needs nobody knows.  It may come by digest, under a mutable tag, or under a protected one that is deleted later; whoever
brings it attaches what it needs to its pin, and there it stays for as long as the pin.

The two may cross.  So each makes its own mark first and then looks for the other's: who comes to need a child pins it,
and then looks whether it is there by now; who brings it sends it, and then looks whether it is pinned by now.  It is
attached before it is sent as well, so that no delete comes in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from immuproxy.edge.caller import Caller
from immuproxy.edge.closure import Take, freely
from immuproxy.edge.freed import once_free
from immuproxy.edge.push.model import ManifestStore, Push
from immuproxy.ledger.content import Content
from immuproxy.ledger.model import Step
from immuproxy.ledger.register import Register
from immuproxy.oci import names
from immuproxy.oci.manifests import Manifest


class LateChildren:
    """Attaches what late manifests need."""

    def __init__(self, register: Register, manifest_store: ManifestStore) -> None:
        """What a manifest needs is read through ``manifest_store``."""
        self._register = register
        self._manifest_store = manifest_store

    async def bring(self, push: Push) -> bool:
        """The push is about to be sent, or has been; whether others need its manifest, by whichever digest (H81).

        Raises 503 where a delete of something that it needs does not end.
        """
        needed = await self._register.attached(push.repository, names.spellings(push.manifest.body))
        waiting = [digest for digest, attached in needed.items() if not attached]
        if waiting:
            await self._attach_to(waiting, push.repository, push.manifest, push.caller, push.take)
        return bool(needed)

    async def bring_guarded(self, push: Push, content: Content, unattached: Iterable[str]) -> None:
        """As `bring`, for a push that pins ``content`` itself and has its claim, which told what is ``unattached`` of
        `spelled`.
        """
        for digest in unattached:
            await self._attach(push.repository, digest, content)

    async def find(self, repository: str, missing: Iterable[str], caller: Caller) -> None:
        """Look again for children that were missing before they were pinned."""
        for digest in await self._manifest_store.arrived(repository, sorted(missing), caller):
            manifest = await self._manifest_store.manifest(repository, digest, caller)
            if manifest is not None:
                await self._attach_to([digest], repository, manifest, caller, freely)

    async def _attach_to(
        self, digests: Iterable[str], repository: str, manifest: Manifest, caller: Caller, take: Take
    ) -> None:
        content = await self._manifest_store.content(repository, manifest, caller, take)
        for digest in digests:
            await self._attach(repository, digest, content)
        await self.find(repository, content.missing, caller)

    async def _attach(self, repository: str, digest: str, content: Content) -> None:
        async def attached() -> bool | None:
            step = await self._register.attach(repository, digest, content.needs)
            return True if step is Step.OK else None

        await once_free(attached, others="a delete of this content")


def spelled(manifest: Manifest, content: Content) -> Sequence[str]:
    """The digests of a manifest that may be needed while nothing is attached to them.

    By its own digest the commit of its push attaches it; but what the tag holds already is not committed again, and may
    have been taken in while the upstream did not have all that it names by another algorithm (H81).
    """
    own, *others = names.spellings(manifest.body)
    return others if all(map(names.is_digest, content.needs)) else (own, *others)
