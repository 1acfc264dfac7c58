"""The rules in force and what they say of a tag."""

from __future__ import annotations

import asyncio
from typing import Any

from immuproxy.audit import views
from immuproxy.console.reach import reach_of
from immuproxy.console.rules import table
from immuproxy.console.rules.holdings import Holdings
from immuproxy.console.sources import Sources
from immuproxy.rules.explain import explain as explain_tag

WEEK_MS = 7 * 86_400_000

SHOWN_RULES = 1000


async def rules(sources: Sources, holdings: Holdings) -> dict[str, Any]:
    """The file in force, how often each rule decided in the last week, and what each holds."""
    now, reach = sources.clock(), await reach_of(sources)
    tallies, held = await asyncio.gather(
        sources.audit.ask(views.top, "rule", since=now - WEEK_MS, until=now, limit=SHOWN_RULES), holdings.latest()
    )
    verdicts = {tally.value: tally.count for tally in tallies}
    return table.rules_context(sources.rules(), verdicts, held) | {"index": reach}


def explain(sources: Sources, repository_name: str, tag_name: str, user: str) -> dict[str, Any]:
    """Why a tag is judged as it is, by the rules in force."""
    found = explain_tag(sources.rules().rules, repository_name, tag_name, user=user or None)
    return table.explanation_context(found)
