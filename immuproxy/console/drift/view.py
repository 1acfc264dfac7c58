"""Where the registry shows something else than the ledger holds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from immuproxy.audit import views
from immuproxy.audit.search import Moment, Search, from_parameters
from immuproxy.audit.values import Chart
from immuproxy.console.drift import findings
from immuproxy.console.reach import reach_of
from immuproxy.console.sources import Sources
from immuproxy.ledger.attention import AttentionKind
from immuproxy.ledger.model import Action, Event, Finding, TagRecord

COUNTED_MS = 30 * 86_400_000
"""How far back the counts go."""

MOST = 100
"""Findings, and lines of history, of one answer."""

HISTORY = from_parameters(0, action=[Action.DRIFT, Action.REPAIR])
"""The search of the history."""


async def drift(sources: Sources, *, limit: int, cursor: str = "", history_cursor: str = "") -> dict[str, Any]:
    """Open findings, what became of others, and how far the comparison is; ``limit`` for both lists."""
    attention, now = sources.register.attention, sources.clock()
    reach = await reach_of(sources)
    page, counts, compared, history, chart = await asyncio.gather(
        sources.register.open_drifts(limit=limit, cursor=cursor),
        attention.counts(AttentionKind.DRIFT),
        sources.register.comparisons.progress(),
        sources.audit.events(HISTORY, limit=limit, cursor=history_cursor),
        sources.audit.ask(views.chart, "outcome", now - COUNTED_MS, now, 1),
    )
    return findings.drift_context(
        await _with_facts(sources, page.found),
        counts=counts,
        totals=_totals(chart),
        history=history.events,
        rules=sources.rules().rules,
        comparison=findings.comparison_dict(compared, sources.pace),
        cursors=(page.next_cursor, history.next_cursor),
    ) | {"index": reach}


def _totals(chart: Chart) -> dict[str, int]:
    return {series.value: series.total for series in chart.series}


async def _with_facts(sources: Sources, found: Sequence[tuple[str, Finding]]) -> list[findings.OpenFinding]:
    attempts, records = await asyncio.gather(
        asyncio.gather(*(last_attempt(sources, repository, finding) for repository, finding in found)),
        _records(sources, found),
    )
    return [
        findings.OpenFinding(repository, finding, record, attempt)
        for (repository, finding), record, attempt in zip(found, records, attempts, strict=True)
    ]


async def last_attempt(sources: Sources, repository: str, finding: Finding) -> Event | None:
    """The last repair that was tried since the finding was opened."""
    search = Search().with_term("repo", repository).with_term("tag", finding.tag).with_term("action", Action.REPAIR)
    return await sources.audit.newest(replace(search, since=Moment(finding.since, str(finding.since))))


async def _records(sources: Sources, found: Sequence[tuple[str, Finding]]) -> list[TagRecord]:
    """In the order of ``found``, which has each repository's findings together."""
    records: list[TagRecord] = []
    for repository, group in groupby(found, key=lambda each: each[0]):
        records += await sources.register.records(repository, [finding.tag for _, finding in group])
    return records
