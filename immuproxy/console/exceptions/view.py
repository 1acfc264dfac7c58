"""Exceptions: those in force, those of the past, and how one begins and ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from immuproxy.allow import permission
from immuproxy.allow.exceptions import Allows, Exemption
from immuproxy.audit.search import TEXT, Moment, Search, Term
from immuproxy.console.exceptions import grants
from immuproxy.console.problems import not_found
from immuproxy.console.reach import reach_of
from immuproxy.console.sources import Sources
from immuproxy.ledger.model import Action, Event, Outcome

MOST = 100
"""Exceptions in force, and grants, of one answer."""

SHOWN_USES = 5
_LATER = 50
MOST_LOOKED_AT = 20
"""Pages of events of exceptions of one tag that are looked through for the end of a grant."""

_LONGEST_MS = permission.LONGEST_MS + 3_600_000
"""No exception lasts longer, the time until the sweep ends it included."""

DELETES = Term("action", "delete-*")
GRANTS = Search().with_term("action", Action.EXCEPTION).with_term("outcome", Outcome.GRANTED)


async def exceptions(sources: Sources, *, limit: int, cursor: str = "", history_cursor: str = "") -> dict[str, Any]:
    """Exceptions in force by repository and tag, and all grants, newest first; ``limit`` for both lists."""
    reach = await reach_of(sources)
    page, count, granted = await asyncio.gather(
        sources.exceptions.standing(limit=limit, cursor=cursor),
        sources.exceptions.count(),
        sources.audit.events(GRANTS, limit=limit, cursor=history_cursor),
    )
    now, rules = sources.clock(), sources.rules().rules
    standing = [exemption for exemption in page.found if exemption.ends > now]
    used, records, history = await asyncio.gather(
        asyncio.gather(*(_uses(sources, _place(each), each.event, each.granted, each.allows) for each in standing)),
        asyncio.gather(*(sources.register.read(*_place(each)) for each in standing)),
        asyncio.gather(*(_granted(sources, event, now) for event in granted.events)),
    )
    shown = [
        grants.standing_dict(each, by, rules, known) for each, by, known in zip(standing, used, records, strict=True)
    ]
    over = len(page.found) - len(standing)
    cursors = (page.next_cursor, granted.next_cursor)
    return grants.exceptions_context(shown, history, count - over, cursors) | {"index": reach}


def _place(each: Exemption | Event) -> tuple[str, str]:
    return each.repository, each.tag


async def _granted(sources: Sources, event: Event, now: int) -> grants.Granted:
    """A grant with its end and its uses."""
    used, ended, standing = await asyncio.gather(
        _uses(sources, _place(event), event.id, event.time, grants.allows_of(event)),
        _end_of(sources, event),
        sources.exceptions.of(event.repository, event.tag),
    )
    stands = standing is not None and standing.event == event.id and standing.ends > now
    return grants.Granted(event, stands, ended, used)


async def _end_of(sources: Sources, event: Event) -> Event | None:
    """What ended a grant; None also where there are too many events after it to be looked through.

    They come newest first: all of them are known once the grant itself has come.
    """
    search = _of_tag(event.repository, event.tag).with_term("action", Action.EXCEPTION)
    until = event.time + _LONGEST_MS
    span = replace(search, since=Moment(event.time, str(event.time)), until=Moment(until, str(until)))
    later, cursor = list[Event](), ""
    for _ in range(MOST_LOOKED_AT):
        page = await sources.audit.events(span, limit=_LATER, cursor=cursor)
        later += page.events
        cursor = page.next_cursor
        if not cursor or event in page.events:
            return grants.end_of(event, later)
    return None


async def _uses(sources: Sources, place: tuple[str, str], event_id: str, since: int, allows: Allows) -> grants.Used:
    """A delete by digest names no tag, so it is looked for in the whole repository."""
    search = _of_tag(*place).with_term("action", Action.PUSH)
    if allows is Allows.DELETE:
        search = Search((*Search().with_term("repo", place[0]).terms, DELETES))
    search = search.with_term(TEXT, f"event {event_id},")
    page = await sources.audit.events(replace(search, since=Moment(since, str(since))), limit=SHOWN_USES)
    return grants.uses(page.events, event_id, more=bool(page.next_cursor) and page.complete)


def _of_tag(repository: str, tag: str) -> Search:
    return Search().with_term("repo", repository).with_term("tag", tag)


async def grant(sources: Sources, event: Event, wish: permission.PermissionRequest) -> dict[str, Any]:
    """Allow what ``wish`` says, by ``event`` (outcome granted); the exception as the page shows it."""
    rules = sources.rules().rules
    told = replace(
        permission.granting(event, rules.match(wish.repository, wish.tag)),
        repository=wish.repository,
        tag=wish.tag,
        digest=wish.digest,
        reason=wish.reason,
    )
    ends = await sources.exceptions.grant(told, lasts_ms=wish.lasts_ms, allows=wish.allows)
    begun = Exemption(
        wish.repository,
        wish.tag,
        ends - wish.lasts_ms,
        ends,
        wish.digest,
        event.id,
        event.actor,
        wish.reason,
        wish.allows,
    )
    return grants.standing_dict(begun, grants.Used(), rules, await sources.register.read(*_place(begun)))


async def end(sources: Sources, event: Event, *, only: str = "") -> dict[str, Any]:
    """End the exception of the tag that ``event`` names; raises `RequestProblem` where there is none.

    ``only``: the event of the grant that is meant; a later one is left alone.
    """
    found = await sources.exceptions.of(event.repository, event.tag)
    if (
        found is not None
        and only in {"", found.event}
        and await sources.exceptions.end(found, permission.ending(event, found))
    ):
        return found.to_dict()
    raise not_found(f"There is no exception for {event.repository}:{event.tag}.", "It may have ended already.")
