"""The list of repositories, and one repository with its tags."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any, TypeVar, cast

from immuproxy.audit.rosters import Roster
from immuproxy.audit.search import Search
from immuproxy.console.problems import unknown_repository
from immuproxy.console.reach import must_be_whole, reach_of
from immuproxy.console.repositories import summaries
from immuproxy.console.repositories.tag_list import Chosen, Shelf, TagQuery, choose
from immuproxy.console.sources import Sources
from immuproxy.rules.model import RuleSet

SHOWN_EVENTS = 10

LEARNT_AT_ONCE = 500
"""Tags: some milliseconds, in which nobody else is answered."""

T = TypeVar("T")


async def repositories(sources: Sources, *, filter_text: str, order: str, limit: int, cursor: str) -> dict[str, Any]:
    """The list of repositories."""
    reach = await reach_of(sources)
    page = await sources.audit.repositories(filter_text, order=order, limit=limit, cursor=cursor)
    return summaries.repositories_context(page, filter_text=filter_text, order=order) | {"index": reach}


async def repository(sources: Sources, name: str, wish: TagQuery, *, limit: int, cursor: str) -> dict[str, Any]:
    """One repository with its tags."""
    reach = await reach_of(sources)
    roster, recent = await asyncio.gather(
        sources.rosters.of(name), sources.audit.events(Search().with_term("repo", name), limit=SHOWN_EVENTS)
    )
    if not roster.tags and not recent.events:
        must_be_whole(reach)
        raise unknown_repository(name)
    rules = sources.rules().rules
    chosen, fitting = await _chosen(roster, rules, wish, limit, cursor)
    records = await sources.register.records(name, [facts.tag for facts in chosen.facts])
    listed = summaries.ListedTags(chosen, records, recent.events, fitting, len(roster.tags), roster.complete)
    return summaries.repository_context(name, listed, wish, rules) | {"index": reach}


async def _chosen(
    roster: Roster, rules: RuleSet, wish: TagQuery, limit: int, cursor: str
) -> tuple[Chosen, tuple[str, ...]]:
    """The page of tags; the roster is not changed by others meanwhile."""
    async with roster.lock:
        shelf = cast("Shelf", roster.kept.setdefault("shelf", Shelf()))
        shelf.begin(roster.repository, rules)
        rest = iter(roster.tags.values())
        while batch := list(islice(rest, LEARNT_AT_ONCE)):
            if shelf.learn(roster.repository, batch, rules if wish.needs_rules else None):
                await asyncio.sleep(0)
        return await _in_thread(partial(choose, roster, shelf, wish, limit=limit, cursor=cursor)), shelf.fitting


async def _in_thread(work: Callable[[], T]) -> T:
    """Others are answered meanwhile; ends with the work also where nobody wants it any more."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})
        raise
