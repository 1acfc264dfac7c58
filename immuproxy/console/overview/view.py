"""What the first page says."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from immuproxy.audit import views
from immuproxy.audit.search import Search
from immuproxy.console.overview import figures
from immuproxy.console.reach import reach_of
from immuproxy.console.sources import Sources
from immuproxy.ledger.model import Outcome

SHOWN_TOPS = 6

SHOWN_REFUSALS = 6


async def overview(sources: Sources, chosen: figures.TimeRange | figures.Period) -> dict[str, Any]:
    """Counts, chart and leaders over a range."""
    audit = sources.audit
    now = sources.clock()
    since, until = chosen.edges(now)
    reach = await reach_of(sources)
    refused = Search().with_term("outcome", Outcome.REFUSED)
    chart, shadowed, recorded, latest = await asyncio.gather(
        audit.ask(views.chart, "attempt", since, until, chosen.buckets),
        audit.ask(views.shadowed, since, until),
        audit.total(),
        audit.events(refused, limit=SHOWN_REFUSALS),
    )
    return figures.overview_context(
        chosen,
        chart,
        await _tops(sources, since, until),
        latest.events,
        shadowed=shadowed,
        recorded=recorded,
        in_force=sources.rules(),
        parts=sources.status(),
        now=now,
    ) | {"index": reach}


async def _tops(sources: Sources, since: int, until: int) -> figures.Tops:
    ask, top = sources.audit.ask, partial(views.top, since=since, until=until, limit=SHOWN_TOPS)
    tags_refused, actors_refused, active = await asyncio.gather(
        ask(top, field="tag", outcome=Outcome.REFUSED),
        ask(top, field="actor", outcome=Outcome.REFUSED),
        ask(top, field="repo"),
    )
    return figures.Tops(tags_refused, actors_refused, active)
