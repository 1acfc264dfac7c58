"""One tag with its life."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from immuproxy.audit.search import Search
from immuproxy.audit.values import EventPage
from immuproxy.console.drift.findings import OpenFinding
from immuproxy.console.drift.view import last_attempt
from immuproxy.console.problems import unknown_repository
from immuproxy.console.reach import must_be_whole, reach_of
from immuproxy.console.sources import Sources
from immuproxy.console.tags import life
from immuproxy.ledger.model import State

SHOWN_HISTORY = 100

DRAWN_HISTORY = 1_000
"""Events of a tag that are drawn; what happened before them is behind "older events"."""


async def tag(sources: Sources, repository: str, tag_name: str, *, limit: int, cursor: str) -> dict[str, Any]:
    """One tag with its history; it is drawn on the first page."""
    reach = await reach_of(sources)
    record, finding, exemption, facts, history = await asyncio.gather(
        sources.register.read(repository, tag_name),
        sources.register.drift_of(repository, tag_name),
        sources.exceptions.of(repository, tag_name),
        sources.audit.last_set(repository, tag_name),
        sources.audit.history(repository, tag_name, limit=limit, cursor=cursor),
    )
    if record.state is State.ABSENT and not record.tombstone and not history.events:
        await _must_know(sources, repository, reach)
    attempt = await last_attempt(sources, repository, finding) if finding else None
    known = life.Known(
        record,
        facts,
        sources.rules().rules,
        sources.clock(),
        drift=OpenFinding(repository, finding, record, attempt) if finding else None,
        exemption=exemption,
    )
    drawn = None if cursor else await _drawn(sources, repository, tag_name, history)
    return life.tag_context(known, history, drawn) | {"index": reach}


async def _drawn(sources: Sources, repository: str, tag_name: str, history: EventPage) -> EventPage:
    """The newest events, as many as are drawn; ``history`` has the first of them."""
    if not history.next_cursor or len(history.events) >= DRAWN_HISTORY:
        return history
    return await sources.audit.history(repository, tag_name, limit=DRAWN_HISTORY)


async def _must_know(sources: Sources, repository: str, reach: Mapping[str, Any]) -> None:
    if not await sources.audit.newest(Search().with_term("repo", repository)):
        must_be_whole(reach)
        raise unknown_repository(repository)
