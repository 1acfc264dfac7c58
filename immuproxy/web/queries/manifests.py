"""One manifest."""

from __future__ import annotations

import asyncio
from typing import Any

from immuproxy.ledger.search import Search
from immuproxy.web.contexts import manifest as contexts
from immuproxy.web.problems import not_found
from immuproxy.web.sources import Sources

SHOWN_EVENTS = 200


async def manifest(sources: Sources, repository_name: str, digest: str) -> dict[str, Any]:
    """One manifest; what is inside is known while a held tag needs it."""
    search = Search().with_term("repo", repository_name).with_term("digest", digest)
    stored, page = await asyncio.gather(
        sources.register.stored(repository_name, digest), sources.audit.events(search, limit=SHOWN_EVENTS)
    )
    if stored is None and not page.events:
        raise not_found(
            f"The proxy knows no manifest {digest} in {repository_name}.",
            "It knows those that were pushed through it, and those that the index of a held tag lists.",
        )
    named = list(dict.fromkeys(event.tag for event in page.events if event.tag and event.digest == digest))
    records = await sources.register.records(repository_name, named)
    return contexts.manifest_context(repository_name, digest, stored, page.events, records)
