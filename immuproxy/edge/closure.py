"""What a tag needs that holds a manifest: the manifest, its children, theirs, and the blobs of all of them (H31).

A few kilobytes can name a gigabyte, so everything about the walk has a limit, and it keeps digests rather than bodies
(H85).  The bytes of the first, small children travel with the step that commits the tag; those of the others are
written one by one, to where the pins of the tag or of its claim hold them (`Register.keep`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from immuproxy.edge.spellings import named_otherwise
from immuproxy.ledger.content import Content
from immuproxy.ledger.model import StoredManifest
from immuproxy.oci import manifests
from immuproxy.oci.errors import OciError
from immuproxy.oci.manifests import Manifest

LOOKED_AT_ONCE = 4
"""Manifests of indexes that are read at a time, for all pushes together: each may be 4 MiB, and is kept for as long as
it takes to read it (H85).
"""

MAX_CLOSURE = 1000
"""Manifests that one index may reach; real ones reach about twenty."""

MAX_DEPTH = 8
"""Indexes within indexes; real ones have two levels (H94)."""

MAX_BYTES = 32 * 1024 * 1024
"""Bytes of all manifests that one index reaches; real ones have some hundred thousand."""

MAX_NEEDS = 5000
"""Digests that one tag may need.  Each is pinned in the one step that claims or commits the tag, while Redis does
nothing else.
"""

MAX_TOGETHER = 256 * 1024
"""Bytes of children that are kept until the commit, and written by it."""

Take = Callable[[int], None]
"""Called with a number of bytes before they are kept; raises `OciError` 503 where there is no room for them."""


def freely(_size: int) -> None:
    """A `Take` for work of the proxy's own, which does one thing at a time."""


@dataclass(slots=True)
class _Reached:
    take: Take
    needs: set[str] = field(default_factory=set)
    manifests: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    named_otherwise: set[str] = field(default_factory=set)
    blobs: dict[str, None] = field(default_factory=dict)
    together: list[StoredManifest] = field(default_factory=list)
    apart: list[str] = field(default_factory=list)
    size: int = 0
    kept: int = 0

    def add(self, manifest: Manifest) -> None:
        self.size += len(manifest.body)
        if self.size > MAX_BYTES:
            raise _too_much(f"manifests of more than {MAX_BYTES} bytes")
        self.manifests.add(manifest.digest)
        self.needs |= {manifest.digest, *manifest.needs}
        self.named_otherwise.update(named_otherwise(manifest))
        if len(self.needs) > MAX_NEEDS:
            raise _too_much(f"more than {MAX_NEEDS} digests")
        self.blobs |= dict.fromkeys(manifests.required_blobs(manifest))

    def add_child(self, manifest: Manifest) -> None:
        self.add(manifest)
        if self.kept + len(manifest.body) > MAX_TOGETHER:
            self.apart.append(manifest.digest)
            return
        self.take(len(manifest.body))
        self.kept += len(manifest.body)
        self.together.append(_stored(manifest))


Look = Callable[[str], Awaitable[Manifest | None]]
IsBlob = Callable[[str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Eyes:
    """How a walk looks.

    ``manifest`` gives a child, or None where there is none such; ``is_blob`` tells of a child that is listed as
    something else whether it is a blob.  As many look at a time, and keep a body, as there are ``turns``.
    """

    manifest: Look
    is_blob: IsBlob
    turns: asyncio.Semaphore


def check_listed(manifest: Manifest) -> None:
    """Raise `OciError` 400 for a manifest that lists more than it may reach, before any of it is looked at."""
    if len(manifest.children) >= MAX_CLOSURE:
        raise _too_much(f"more than {MAX_CLOSURE} manifests")


async def walk(manifest: Manifest, eyes: Eyes, take: Take) -> Content:
    """What a tag that holds ``manifest`` needs.

    Level by level, so that what several indexes list is as deep as it has to be.  Raises `OciError` 400 where it is
    more than the limits of this module.  All blobs that are named by another algorithm are ``unresolved`` yet.
    """
    reached = _Reached(take)
    reached.add(manifest)
    visited, depth, level = {_Child(manifest.digest)}, 0, _listed(manifest)
    while fresh := [child for child in level if child not in visited]:
        visited.update(fresh)
        depth += 1
        if len(visited) > MAX_CLOSURE:
            raise _too_much(f"more than {MAX_CLOSURE} manifests")
        if depth > MAX_DEPTH:
            raise OciError(400, "UNSUPPORTED", f"indexes are nested in it more than {MAX_DEPTH} deep")
        level = await _next_level(fresh, eyes, reached)
    return _content(manifest, reached)


@dataclass(frozen=True, slots=True)
class _Child:
    """What an index lists; what is listed in both ways is looked at in both."""

    digest: str
    otherwise: bool = False


Level = dict[_Child, None]


def _listed(manifest: Manifest) -> Level:
    return dict.fromkeys(_Child(child, child in manifest.otherwise) for child in manifest.children)


async def _next_level(level: Sequence[_Child], eyes: Eyes, reached: _Reached) -> Level:
    """What the children of a level list.  A few are looked at together, and all end before an error is told."""
    found: Level = {}
    for at in range(0, len(level), LOOKED_AT_ONCE):
        batch = [_children(child, eyes, reached) for child in level[at : at + LOOKED_AT_ONCE]]
        for listed in await asyncio.gather(*batch, return_exceptions=True):
            if isinstance(listed, BaseException):
                raise listed
            found |= listed
    return found


async def _children(listed: _Child, eyes: Eyes, reached: _Reached) -> Level:
    """By itself, so that no body outlives its turn."""
    async with eyes.turns:
        if listed.otherwise and await eyes.is_blob(listed.digest):
            return {}
        child = await eyes.manifest(listed.digest)
        if child is None:
            reached.missing.add(listed.digest)
            return {}
        if child.digest in reached.manifests:  # it is listed by another digest as well (H81)
            return {}
        reached.add_child(child)
        return _listed(child)


def _content(manifest: Manifest, reached: _Reached) -> Content:
    return Content(
        digest=manifest.digest,
        needs=frozenset(reached.needs),
        missing=frozenset(reached.missing),
        unresolved=frozenset(reached.named_otherwise),
        stored=(_stored(manifest), *reached.together),
        apart=tuple(reached.apart),
        blobs=tuple(reached.blobs),
        media_type=manifest.media_type,
        size=manifest.size,
        platforms=manifest.platforms,
    )


def _stored(manifest: Manifest) -> StoredManifest:
    return StoredManifest(manifest.digest, manifest.media_type, manifest.body)


def _too_much(what: str) -> OciError:
    return OciError(400, "UNSUPPORTED", f"the manifest reaches {what}, which is more than one tag may need")
