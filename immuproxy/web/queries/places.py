"""Repositories and what is in them."""

from __future__ import annotations

import asyncio
from typing import Any

from immuproxy.ledger.model import State
from immuproxy.ledger.search import Search
from immuproxy.web.contexts import manifest as manifests
from immuproxy.web.contexts import repositories as lists
from immuproxy.web.contexts import tag as tags
from immuproxy.web.problems import not_found, unknown_repository
from immuproxy.web.sources import Sources

SHOWN_EVENTS = 10

SHOWN_HISTORY = 200


async def repositories(sources: Sources, *, filter_text: str, order: str, limit: int, cursor: str) -> dict[str, Any]:
    """The list of repositories."""
    page = await sources.audit.repositories(filter_text, order=order, limit=limit, cursor=cursor)
    return lists.repositories_context(page, filter_text=filter_text, order=order)


async def repository(sources: Sources, name: str, *, filter_text: str, limit: int, cursor: str) -> dict[str, Any]:
    """One repository with its tags."""
    total, shown, following = await _tags(sources, name, filter_text, limit, cursor)
    records, latest, recent = await asyncio.gather(
        sources.register.records(name, shown),
        sources.audit.latest(name, shown),
        sources.audit.events(Search().with_term("repo", name), limit=SHOWN_EVENTS),
    )
    if not total and not recent.events:
        raise unknown_repository(name)
    return lists.repository_context(
        name,
        lists.rows(records, latest),
        recent.events,
        sources.rules().rules,
        total=total,
        filter_text=filter_text,
        next_cursor=following,
    )


async def _tags(sources: Sources, name: str, filter_text: str, limit: int, cursor: str) -> tuple[int, list[str], str]:
    """How many tags there are, those to show, and the cursor of the rest."""
    page = await sources.audit.tags(name, limit=1 if filter_text else limit, cursor="" if filter_text else cursor)
    if not filter_text:
        return page.total, [found.tag for found in page.tags], page.next_cursor
    values = await sources.audit.facet_values("tag", filter_text, repository=name, limit=limit)
    return page.total, [tally.value for tally in values], ""


async def tag(sources: Sources, repository_name: str, tag_name: str, *, limit: int, cursor: str) -> dict[str, Any]:
    """One tag with its history."""
    record, history = await asyncio.gather(
        sources.register.read(repository_name, tag_name),
        sources.audit.history(repository_name, tag_name, limit=limit, cursor=cursor),
    )
    if record.state is State.ABSENT and not record.tombstone and not history.events:
        await _must_know(sources, repository_name)
    return tags.tag_context(
        record, sources.rules().rules, history.events, older=history.next_cursor, now=sources.clock()
    )


async def _must_know(sources: Sources, repository_name: str) -> None:
    page = await sources.audit.events(Search().with_term("repo", repository_name), limit=1)
    if not page.events:
        raise unknown_repository(repository_name)


async def manifest(sources: Sources, repository_name: str, digest: str) -> dict[str, Any]:
    """One manifest; what is inside is known while a held tag needs it."""
    search = Search().with_term("repo", repository_name).with_term("digest", digest)
    stored, page = await asyncio.gather(
        sources.register.stored(repository_name, digest), sources.audit.events(search, limit=SHOWN_HISTORY)
    )
    if stored is None and not page.events:
        raise not_found(
            f"The proxy knows no manifest {digest} in {repository_name}.",
            "It knows those that were pushed through it, and those that the index of a held tag lists.",
        )
    named = list(dict.fromkeys(event.tag for event in page.events if event.tag and event.digest == digest))
    records = await sources.register.records(repository_name, named)
    return manifests.manifest_context(repository_name, digest, stored, page.events, records)
