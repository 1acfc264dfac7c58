"""Two manifests, opened to be compared."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from heapq import nlargest
from typing import Any

from immuproxy.audit.search import Search
from immuproxy.console.compare import comparison
from immuproxy.console.compare.comparison import CHANGED, Side
from immuproxy.console.links import ImageName
from immuproxy.console.manifests.document import Descriptor
from immuproxy.console.manifests.manifest import ImageDetails, Opened
from immuproxy.console.manifests.opening import open_children, open_image, open_manifest
from immuproxy.console.problems import RequestProblem, not_found
from immuproxy.console.reach import must_be_whole, reach_of
from immuproxy.console.sources import Sources

COMPARED_PLATFORMS = 12
"""Platforms that are compared in full; each may cost four questions to the registry."""


SHOWN_CHOICES = 50


async def compare(sources: Sources, before: ImageName, after: ImageName) -> dict[str, Any]:
    """What changed from one manifest to another."""
    reach = await reach_of(sources)
    first, second = await asyncio.gather(_side(sources, before, reach), _side(sources, after, reach))
    if first.document.is_index and second.document.is_index:
        first, second = await _with_children(sources, first, second)
    return comparison.comparison_context(first, second) | {"index": reach}


async def choices(sources: Sources, repository: str) -> list[str]:
    """Tags of the repository that may be compared, last set first."""
    roster = await sources.rosters.of(repository)
    set_ = (facts for facts in roster.tags.values() if facts.digest)
    latest = nlargest(SHOWN_CHOICES, set_, key=lambda facts: (facts.held or facts.changed, facts.tag))
    return [f"{repository}:{facts.tag}" for facts in latest]


async def _side(sources: Sources, asked: ImageName, reach: Mapping[str, Any]) -> Side:
    digest = asked.reference if asked.is_digest else await _held(sources, asked, reach)
    await _must_know(sources, asked.repository, digest, reach)
    opened = await open_manifest(sources, asked.repository, digest)
    return Side(str(asked), opened, await open_image(sources, asked.repository, opened.document))


async def _held(sources: Sources, asked: ImageName, reach: Mapping[str, Any]) -> str:
    """What a tag holds, or was last set to."""
    record, facts = await asyncio.gather(
        sources.register.read(asked.repository, asked.reference),
        sources.audit.last_set(asked.repository, asked.reference),
    )
    digest = record.committed.digest if record.committed else "" if record.tombstone else facts.digest
    if not digest:
        if not record.tombstone:
            must_be_whole(reach)
        raise unknown(f"The proxy knows no manifest of {asked}.")
    return digest


async def _must_know(sources: Sources, repository: str, digest: str, reach: Mapping[str, Any]) -> None:
    """Nothing is opened that the proxy does not know in that repository."""
    search = Search().with_term("repo", repository).with_term("digest", digest)
    pinned, found = await asyncio.gather(sources.register.is_pinned(repository, digest), sources.audit.newest(search))
    if not pinned and not found:
        must_be_whole(reach)
        raise unknown(f"The proxy knows no manifest {digest} in {repository}.")


def unknown(message: str) -> RequestProblem:
    """One of the two is not known."""
    return not_found(message, "It knows those that were pushed through it, and what a held tag needs.")


async def _with_children(sources: Sources, before: Side, after: Side) -> tuple[Side, Side]:
    """Both indexes with the images that changed, and what those say of themselves."""
    changed = [pair for pair in comparison.pairs(before, after) if pair.status == CHANGED][:COMPARED_PLATFORMS]
    olds = [pair.before for pair in changed if pair.before]
    news = [pair.after for pair in changed if pair.after]
    first, second = await asyncio.gather(_opened(sources, before, olds), _opened(sources, after, news))
    return first, second


async def _opened(sources: Sources, side: Side, parts: list[Descriptor]) -> Side:
    repository = side.opened.repository
    children = await open_children(sources, repository, parts)
    images = await asyncio.gather(*(_image(sources, opened) for opened in children.values()))
    return replace(side, children=children, child_images=dict(zip(children, images, strict=True)))


async def _image(sources: Sources, opened: Opened) -> ImageDetails:
    return await open_image(sources, opened.repository, opened.document)
