"""One manifest push as a value, and what has to be learnt from the upstream before it can be decided."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

from immuproxy.edge import answers, spellings
from immuproxy.edge.answers import Answer
from immuproxy.edge.caller import Caller
from immuproxy.edge.closure import LOOKED_AT_ONCE, Eyes, Take, freely, walk
from immuproxy.edge.push.in_turn import Waits
from immuproxy.edge.upstream import Found, Upstream
from immuproxy.ledger.content import Content
from immuproxy.ledger.model import Event, StoredManifest, TagRecord
from immuproxy.ledger.register import Register
from immuproxy.oci import growth, manifests
from immuproxy.oci.errors import unavailable
from immuproxy.oci.manifests import Manifest
from immuproxy.rules.model import Image, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """A manifest on its way to a tag.  ``draft`` is its event as long as the outcome is not known; ``take`` is to be
    called before more is kept for it than its body, ``waits`` makes what it waits for others in
    (`immuproxy.edge.push.in_turn`).
    """

    repository: str
    tag: str
    manifest: Manifest
    caller: Caller
    rule: Rule
    draft: Event
    take: Take = freely
    waits: Waits = nullcontext

    def created(self) -> Answer:
        """The answer to its success."""
        return answers.created(self.repository, self.manifest.digest, self.caller.edge_origin)


class RuleChangedError(Exception):
    """Another rule decides about the tag than when the push came: it begins again with that one (H103, H104)."""


class ManifestStore:
    """Manifests by digest: from the ledger where it keeps them, else from the upstream."""

    def __init__(self, register: Register, upstream: Upstream) -> None:
        """Read through ``register`` to ``upstream``."""
        self._register = register
        self._upstream = upstream
        self._turns = asyncio.Semaphore(LOOKED_AT_ONCE)

    async def content(self, repository: str, manifest: Manifest, caller: Caller, take: Take = freely) -> Content:
        """What a tag that holds ``manifest`` needs (`immuproxy.edge.closure`); raises what its `walk` raises.

        ``take`` is called before the bytes of a child are kept.
        """

        async def look(digest: str) -> Manifest | None:
            return await self.manifest(repository, digest, caller)

        async def is_blob(digest: str) -> bool:
            return await self._upstream.has_blob(repository, digest, caller)

        content = await walk(manifest, Eyes(look, is_blob, self._turns), take)
        kept = await spellings.kept_as(self._upstream, repository, content.unresolved, caller)
        return replace(
            content,
            needs=content.needs | set(filter(None, kept.values())),
            unresolved=frozenset(blob for blob, digest in kept.items() if not digest),
        )

    async def keep(self, repository: str, content: Content, caller: Caller) -> None:
        """Store the manifests that do not travel with the commit; only for a tag that has its claim, or is committed.

        Where that ends before the commit, no bytes are left behind (H85).
        """
        for digest in content.apart:
            if not await self._register.is_stored(repository, digest):
                async with self._turns:
                    await self._keep(repository, digest, caller)

    async def _keep(self, repository: str, digest: str, caller: Caller) -> None:
        found = await self._upstream.probe(repository, digest, caller)
        if isinstance(found, Found) and found.digest == digest:
            await self._register.keep(repository, StoredManifest(digest, found.media_type, found.body))

    async def manifest(self, repository: str, digest: str, caller: Caller) -> Manifest | None:
        """One manifest by digest; None when the upstream has none such (a sparse index; the upstream judges that)."""
        stored = await self._register.stored(repository, digest)
        if stored:
            return manifests.describe(stored.body, stored.media_type)
        found = await self._upstream.manifest(repository, digest, caller)
        return manifests.describe(found.body, found.media_type) if found else None

    async def arrived(self, repository: str, digests: Sequence[str], caller: Caller) -> list[str]:
        """Which of some manifests are there; a few are looked at together."""

        async def is_there(digest: str) -> bool:
            async with self._turns:
                return await self.manifest(repository, digest, caller) is not None

        found: list[str] = []
        for at in range(0, len(digests), LOOKED_AT_ONCE):
            batch = digests[at : at + LOOKED_AT_ONCE]
            there = await asyncio.gather(*map(is_there, batch), return_exceptions=True)
            for digest, answer in zip(batch, there, strict=True):
                if isinstance(answer, BaseException):
                    raise answer
                found += [digest] * answer
        return found

    async def image(self, repository: str, manifest: Manifest, caller: Caller, rule: Rule) -> Image:
        """A manifest as ``rule`` sees it; labels cost a look at each config, so only where it asks for them."""
        found = await self.labels(repository, manifest, caller) if rule.needs_labels else {}
        image = Image(manifest.digest, manifest.media_type, frozenset(manifest.entries), found)
        if not rule.needs_entries:
            return image
        keeps = growth.substance(manifest)
        return replace(image, entries=keeps.digests, descriptors=keeps.descriptors, platforms=keeps.platforms)

    async def held(self, record: TagRecord, caller: Caller, rule: Rule) -> Image:
        """What a committed tag holds, as ``rule`` sees it; read only where it asks more than the record tells.

        Raises 503 where the rule asks what the manifest lists and nobody gives it out: nothing may be dropped unseen.
        """
        if record.committed is None:
            message = "the tag holds nothing"
            raise ValueError(message)
        digest, manifest = record.committed.digest, None
        if rule.needs_labels or rule.needs_entries:
            manifest = await self.manifest(record.repository, digest, caller)
        if manifest is not None:
            return await self.image(record.repository, manifest, caller, rule)
        if rule.needs_entries:
            raise unavailable(f"nobody gives out {digest}, which this append-only tag holds")
        return Image(digest=digest, media_type=record.committed.media_type)

    async def labels(self, repository: str, manifest: Manifest, caller: Caller) -> Mapping[str, str]:
        """Annotations and config labels; of an index, those on which all its images agree."""
        if not manifest.is_index:
            config = await self._config_labels(repository, manifest, caller)
            return {**config, **manifest.annotations}
        shared: set[tuple[str, str]] | None = None
        for child in (each for each in manifest.children if each not in manifest.otherwise):
            found = await self._image_labels(repository, child, caller)
            if found:
                shared = found if shared is None else shared & found
        return {**dict(shared or ()), **manifest.annotations}

    async def _image_labels(self, repository: str, digest: str, caller: Caller) -> set[tuple[str, str]]:
        """One after the other, so that only one of the children is in memory (H85)."""
        async with self._turns:
            child = await self.manifest(repository, digest, caller)
            if child is None or not child.config or child.subject:
                return set()
            return set((await self._config_labels(repository, child, caller)).items())

    async def _config_labels(self, repository: str, manifest: Manifest, caller: Caller) -> Mapping[str, str]:
        config = await self._upstream.small_blob(repository, manifest.config, caller) if manifest.config else None
        return manifests.config_labels(config) if config else {}
