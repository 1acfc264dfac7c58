"""One manifest."""

from __future__ import annotations

import asyncio
from typing import Any

from immuproxy.audit.search import Search
from immuproxy.audit.values import TagFacts
from immuproxy.console.manifests.manifest import Around, manifest_context
from immuproxy.console.manifests.opening import open_image_of_any, open_manifest, stored_children
from immuproxy.console.manifests.referrers import About, tags_about
from immuproxy.console.problems import not_found
from immuproxy.console.reach import must_be_whole, reach_of
from immuproxy.console.sources import Sources
from immuproxy.ledger.model import Event, TagRecord

SHOWN_EVENTS = 100


async def manifest(sources: Sources, repository: str, digest: str) -> dict[str, Any]:
    """One manifest, with what is inside, around it and under which tags."""
    search = Search().with_term("repo", repository).with_term("digest", digest)
    register, reach = sources.register, await reach_of(sources)
    stored, pins, page, roster, about = await asyncio.gather(
        register.stored(repository, digest),
        register.pin_count(repository, digest),
        sources.audit.events(search, limit=SHOWN_EVENTS),
        sources.rosters.of(repository),
        _about(sources, repository, digest),
    )
    events = page.events or await _newest(sources, search)
    if stored is None and not pins and not events:
        must_be_whole(reach)
        raise not_found(
            f"The proxy knows no manifest {digest} in {repository}.",
            "It knows those that were pushed through it, and those that the index of a held tag lists.",
        )
    opened = await open_manifest(sources, repository, digest, stored)
    children = await stored_children(sources, repository, opened.document)
    image = await open_image_of_any(sources, opened, children)
    named = list(dict.fromkeys(event.tag for event in events if event.tag and event.digest == digest))
    holding = [facts for facts in roster.tags.values() if facts.digest == digest]
    around = Around(
        events=events,
        records=await register.records(repository, named),
        holding=[facts.tag for facts in holding],
        needed=max(pins - sum(facts.held > 0 for facts in holding), 0),
        children=children,
        about=about,
    )
    return manifest_context(opened, image, around) | {"index": reach}


async def _newest(sources: Sources, search: Search) -> tuple[Event, ...]:
    """What a page did not come to before its time was up."""
    found = await sources.audit.newest(search)
    return () if found is None else (found,)


async def _about(sources: Sources, repository: str, digest: str) -> list[About]:
    """The tags under which clients keep what refers to the manifest, those that there are."""
    records = await sources.register.records(repository, tags_about(digest))
    found = await asyncio.gather(*(_about_tag(sources, record) for record in records))
    return [about for about in found if about.digest]


async def _about_tag(sources: Sources, record: TagRecord) -> About:
    held = record.committed
    facts = TagFacts(record.tag) if held else await sources.audit.last_set(record.repository, record.tag)
    digest = held.digest if held else facts.digest
    if not digest:
        return About(record, "", None)
    return About(record, digest, (await open_manifest(sources, record.repository, digest)).document)
