"""The audit log, one event of it, and what may be typed into its search box."""

from __future__ import annotations

from typing import Any

from immuproxy.audit import views
from immuproxy.audit.search import Search
from immuproxy.audit.values import Tally
from immuproxy.console.audit import search_form
from immuproxy.console.problems import not_found
from immuproxy.console.reach import must_be_whole, reach_of
from immuproxy.console.sources import Sources
from immuproxy.ledger.model import Action, Outcome

EVERYTHING = Search()


async def events(
    sources: Sources, search: Search, *, limit: int, cursor: str, filters: Search = EVERYTHING
) -> dict[str, Any]:
    """One page of the audit log: of what both ``search`` and ``filters`` want."""
    reach = await reach_of(sources)
    page = await sources.audit.events(search, filters=filters, limit=limit, cursor=cursor)
    return search_form.events_context(page, search, filters) | {"index": reach}


async def event(sources: Sources, event_id: str) -> dict[str, Any]:
    """One event."""
    reach = await reach_of(sources)
    found = await sources.audit.event(event_id)
    if found is None:
        must_be_whole(reach)
        raise not_found(f"There is no event {event_id[:80]}.", "It may have been pruned, or the address was cut short.")
    return search_form.event_context(found) | {"index": reach}


async def complete(sources: Sources, text: str, position: int) -> dict[str, Any]:
    """What may be typed next into the search box."""
    reach, wanted = await reach_of(sources), search_form.word_at(text, position)
    if wanted.key:
        found = search_form.value_suggestions(wanted, await _values(sources, wanted))
    else:
        found = search_form.key_suggestions(wanted)
    return {"start": wanted.start, "end": wanted.end, "suggestions": found, "index": reach}


_FIXED = {
    "outcome": tuple(Outcome),
    "action": tuple(Action),
    "shadow": ("yes", "no"),
    "since": ("1h", "24h", "7d", "30d"),
}

_STORED = frozenset({"repo", "tag", "actor", "rule", "ip"})

SHOWN_SUGGESTIONS = 8


async def _values(sources: Sources, wanted: search_form.Wanted) -> list[Tally]:
    if wanted.key in _FIXED:
        return [Tally(value, 0) for value in _FIXED[wanted.key] if value.startswith(wanted.prefix)]
    if wanted.key not in _STORED:
        return []
    return await sources.audit.ask(views.known_values, wanted.key, wanted.prefix, SHOWN_SUGGESTIONS)
