"""One function a view: read what the view says, and let its context say it.  Thin: nothing is decided here.

All raise `LedgerUnavailableError` when Redis does not answer, `BadCursorError` for a cursor that nobody gave out, and
`Problem` for what is not there.
"""

from __future__ import annotations

import asyncio
from typing import Any

from immuproxy.ledger.audit import Tally
from immuproxy.ledger.model import Action, Outcome, State
from immuproxy.ledger.search import Search
from immuproxy.rules.explain import explain as explain_tag
from immuproxy.web.contexts import log
from immuproxy.web.contexts import manifest as manifests
from immuproxy.web.contexts import overview as overviews
from immuproxy.web.contexts import repositories as lists
from immuproxy.web.contexts import rules as rules_contexts
from immuproxy.web.contexts import tag as tags
from immuproxy.web.problems import not_found, unknown_repository
from immuproxy.web.sources import Sources

SHOWN_TOPS = 6
SHOWN_REFUSALS = 6
SHOWN_EVENTS = 10
SHOWN_HISTORY = 200


async def overview(sources: Sources, chosen: overviews.Range) -> dict[str, Any]:
    """Counts, chart and leaders over a range."""
    audit = sources.audit
    since, until = chosen.edges(sources.clock())
    refused = Search().with_term("outcome", Outcome.REFUSED)
    chart, recorded, latest, parts = await asyncio.gather(
        audit.counts(since, until, chosen.buckets),
        audit.total(),
        audit.events(refused, limit=SHOWN_REFUSALS),
        sources.status(),
    )
    return overviews.overview_context(
        chosen,
        chart,
        await _tops(sources, since, until),
        latest.events,
        recorded=recorded,
        in_force=sources.rules(),
        parts=parts,
    )


async def _tops(sources: Sources, since: int, until: int) -> overviews.Tops:
    top = sources.audit.top
    tags_refused, actors_refused, active = await asyncio.gather(
        top("tag", since=since, until=until, outcome=Outcome.REFUSED, limit=SHOWN_TOPS),
        top("actor", since=since, until=until, outcome=Outcome.REFUSED, limit=SHOWN_TOPS),
        top("repo", since=since, until=until, limit=SHOWN_TOPS),
    )
    return overviews.Tops(tags_refused, actors_refused, active)


async def events(sources: Sources, search: Search, *, limit: int, cursor: str) -> dict[str, Any]:
    """One page of the audit log."""
    return log.events_context(await sources.audit.events(search, limit=limit, cursor=cursor), search)


async def event(sources: Sources, event_id: str) -> dict[str, Any]:
    """One event."""
    found = await sources.audit.event(event_id)
    if found is None:
        raise not_found(f"There is no event {event_id[:80]}.", "It may have been pruned, or the address was cut short.")
    return log.event_context(found)


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


WEEK_MS = 7 * 86_400_000
SHOWN_RULES = 1000


async def rules(sources: Sources) -> dict[str, Any]:
    """The file in force, and how often each rule decided in the last week."""
    now = sources.clock()
    tallies = await sources.audit.top("rule", since=now - WEEK_MS, until=now, limit=SHOWN_RULES)
    return rules_contexts.rules_context(sources.rules(), {tally.value: tally.count for tally in tallies})


def explain(sources: Sources, repository_name: str, tag_name: str, user: str) -> dict[str, Any]:
    """Why a tag is judged as it is, by the rules in force."""
    found = explain_tag(sources.rules().rules, repository_name, tag_name, user=user or None)
    return rules_contexts.explanation_context(found)


async def complete(sources: Sources, text: str, position: int) -> dict[str, Any]:
    """What may be typed next into the search box."""
    wanted = log.word_at(text, position)
    found = log.value_suggestions(wanted, await _values(sources, wanted)) if wanted.key else log.key_suggestions(wanted)
    return {"start": wanted.start, "end": wanted.end, "suggestions": found}


_FIXED = {
    "outcome": tuple(Outcome),
    "action": tuple(Action),
    "shadow": ("yes", "no"),
    "since": ("1h", "24h", "7d", "30d"),
}
_STORED = frozenset({"repo", "tag", "actor", "rule", "ip"})
SHOWN_SUGGESTIONS = 8


async def _values(sources: Sources, wanted: log.Wanted) -> list[Tally]:
    if wanted.key in _FIXED:
        return [Tally(value, 0) for value in _FIXED[wanted.key] if value.startswith(wanted.prefix)]
    if wanted.key not in _STORED:
        return []
    return await sources.audit.facet_values(wanted.key, wanted.prefix, limit=SHOWN_SUGGESTIONS)
