"""One manifest push as a value, and what has to be learnt from the upstream before it can be decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from immuproxy.ledger.model import Event, StoredManifest, TagRecord
from immuproxy.ledger.register import Content, Register
from immuproxy.oci import growth, manifests
from immuproxy.oci.errors import OciError, unavailable
from immuproxy.oci.manifests import Manifest
from immuproxy.proxy import answers, spellings
from immuproxy.proxy.answers import Answer
from immuproxy.proxy.caller import Caller
from immuproxy.proxy.upstream import Found, Upstream, UpstreamUnavailableError
from immuproxy.rules.model import Image, Rule

MAX_CLOSURE = 1000
"""Manifests that one index may reach; real ones reach about twenty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """A manifest on its way to a tag.  ``draft`` is its event as long as the outcome is not known."""

    repository: str
    tag: str
    manifest: Manifest
    caller: Caller
    rule: Rule
    draft: Event

    def created(self) -> Answer:
        """The answer to its success."""
        return answers.created(self.repository, self.manifest.digest, self.caller.edge_origin)


@dataclass(slots=True)
class _Walk:
    needs: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    stored: dict[str, StoredManifest] = field(default_factory=dict)


class Library:
    """Manifests by digest: from the ledger where it keeps them, else from the upstream."""

    def __init__(self, register: Register, upstream: Upstream) -> None:
        """Read through ``register`` to ``upstream``."""
        self._register = register
        self._upstream = upstream

    async def content(self, repository: str, manifest: Manifest, caller: Caller) -> Content:
        """What a tag that holds ``manifest`` needs: the transitive closure (H31), and the bytes of every manifest in
        it.
        """
        walk = _Walk()
        await self._visit(repository, manifest, caller, walk)
        kept = await spellings.kept_as(self._upstream, repository, walk.needs, walk.stored.values(), caller)
        return Content(
            digest=manifest.digest,
            needs=frozenset(walk.needs | set(kept.values()) - {""}),
            missing=frozenset(walk.missing),
            unresolved=frozenset(blob for blob, digest in kept.items() if not digest),
            stored=tuple(walk.stored.values()),
            media_type=manifest.media_type,
            size=manifest.size,
            platforms=manifest.platforms,
        )

    async def _visit(self, repository: str, manifest: Manifest, caller: Caller, walk: _Walk) -> None:
        walk.needs |= {manifest.digest, *manifest.needs}
        walk.stored[manifest.digest] = StoredManifest(manifest.digest, manifest.media_type, manifest.body)
        if len(walk.stored) > MAX_CLOSURE:
            raise OciError(400, "UNSUPPORTED", f"the index reaches more than {MAX_CLOSURE} manifests")
        for child in manifest.children:
            if child not in walk.stored:
                found = await self.manifest(repository, child, caller)
                if found is None:
                    walk.missing.add(child)
                elif found.digest not in walk.stored:
                    await self._visit(repository, found, caller, walk)

    async def manifest(self, repository: str, digest: str, caller: Caller) -> Manifest | None:
        """One manifest by digest; None when the upstream has none such (a sparse index; the upstream judges that)."""
        stored = await self._register.stored(repository, digest)
        if stored:
            return manifests.describe(stored.body, stored.media_type)
        found = await self._upstream.probe(repository, digest, caller)
        return manifests.describe(found.body, found.media_type) if isinstance(found, Found) else None

    async def image(self, repository: str, manifest: Manifest, caller: Caller, rule: Rule) -> Image:
        """A manifest as ``rule`` sees it; labels cost a look at each config, so only where it asks for them."""
        found = await self.labels(repository, manifest, caller) if rule.needs_labels else {}
        image = Image(manifest.digest, manifest.media_type, frozenset(manifest.entries), found)
        if not rule.needs_entries:
            return image
        keeps = growth.substance(manifest)
        return replace(image, entries=keeps.digests, descriptors=keeps.descriptors, platforms=keeps.platforms)

    async def held(self, record: TagRecord, caller: Caller, rule: Rule) -> Image:
        """What a committed tag holds, as ``rule`` sees it.

        Raises 503 where the rule asks what the manifest lists and nobody gives it out: nothing may be dropped unseen.
        """
        if record.committed is None:
            message = "the tag holds nothing"
            raise ValueError(message)
        digest = record.committed.digest
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
        children = [await self.manifest(repository, child, caller) for child in manifest.children]
        images = [child for child in children if child and child.config and not child.subject]
        shared = _common([await self._config_labels(repository, image, caller) for image in images])
        return {**shared, **manifest.annotations}

    async def _config_labels(self, repository: str, manifest: Manifest, caller: Caller) -> Mapping[str, str]:
        config = await self._upstream.small_blob(repository, manifest.config, caller) if manifest.config else None
        return manifests.config_labels(config) if config else {}


def blobs_of(content: Content) -> tuple[str, ...]:
    """The blobs without which the manifest, or one of its children, cannot be pulled; each once."""
    kept = (manifests.describe(stored.body, stored.media_type) for stored in content.stored)
    return tuple(dict.fromkeys(blob for manifest in kept for blob in manifests.required_blobs(manifest)))


async def is_stored(upstream: Upstream, push: Push) -> bool:
    """Whether the upstream gives out the very bytes under the tag (H25).

    A registry that was killed may have left an empty link, which only another PUT mends: it counts as not stored
    (H16).
    """
    try:
        found = await upstream.probe(push.repository, push.tag, push.caller)
    except UpstreamUnavailableError:
        return False
    return isinstance(found, Found) and found.digest == push.manifest.digest


def _common(all_labels: Iterable[Mapping[str, str]]) -> dict[str, str]:
    pairs = [set(labels.items()) for labels in all_labels if labels]
    return dict(set.intersection(*pairs)) if pairs else {}
