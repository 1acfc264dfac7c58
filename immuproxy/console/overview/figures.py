"""The overview: how many pushes, what was refused, what is in force.  PURE."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from immuproxy.audit.values import Chart, Tally
from immuproxy.console.sources import Dependency, RulesInForce, status_dict
from immuproxy.console.wording import iso_minutes, iso_seconds
from immuproxy.ledger.model import Event, Outcome

_MINUTE = 60_000
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A stretch of time up to now, cut into equal buckets; ``text`` is how a search says it."""

    name: str
    label: str
    step: int
    buckets: int

    def edges(self, now: int) -> tuple[int, int]:
        """Begin and end in ms, on whole steps, so that the same bucket is the same at each reload."""
        end = -(-now // self.step) * self.step
        return end - self.step * self.buckets, end

    @property
    def search(self) -> str:
        """The search for what it shows."""
        return f"since:{self.name}"

    def asked(self) -> dict[str, str]:
        """The query that asks for it."""
        return {"range": self.name}


RANGES = {
    choice.name: choice
    for choice in (
        TimeRange("1h", "in the last hour", _MINUTE, 60),
        TimeRange("24h", "in the last 24 hours", 30 * _MINUTE, 48),
        TimeRange("7d", "in the last 7 days", 3 * _HOUR, 56),
        TimeRange("30d", "in the last 30 days", 12 * _HOUR, 60),
        TimeRange("90d", "in the last 90 days", _DAY, 90),
    )
}
USUAL_RANGE = "24h"

LONGEST = 366 * _DAY
"""A longer stretch would be slow to count."""

_MOST_BARS = 62
_STEPS = (_MINUTE, 5 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE, _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR, _DAY)


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time from one moment to another, in ms, and as they were written; ``until_text`` may be empty.

    What is shown begins and ends on whole steps (minutes, quarters of an hour, days), so it may be a little longer; but
    it never ends after ``now``.
    """

    since: int
    until: int
    since_text: str
    until_text: str = ""
    now: int = sys.maxsize
    name = ""

    @property
    def step(self) -> int:
        """The length of a bucket."""
        span = self.until - self.since
        days = -(-span // (_MOST_BARS * _DAY))
        return next((step for step in _STEPS if span <= step * _MOST_BARS), days * _DAY)

    @property
    def buckets(self) -> int:
        """How many there are."""
        since, until = self.edges(self.until)
        return (until - since) // self.step

    def edges(self, now: int) -> tuple[int, int]:  # noqa: ARG002  # it was told when it was made
        """Begin and end, as they are shown."""
        step = self.step
        return self.since // step * step, -(-self.until // step) * step

    @property
    def label(self) -> str:
        """In words, behind "pushes"."""
        since, until = self.edges(self.until)
        return f"from {iso_minutes(since)} to {iso_minutes(min(until, self.now))} UTC"

    @property
    def search(self) -> str:
        """The search for what it shows."""
        since, until = self.edges(self.until)
        return bucket_search({"since": since, "until": until})

    def asked(self) -> dict[str, str]:
        """The query that asks for it."""
        return {"since": self.since_text, "until": self.until_text}


GROUPS: Mapping[str, str] = {
    "push created": "accepted",
    "push overwritten": "accepted",
    "push unchanged": "unchanged",
    "push refused": "refused",
    "push failed": "failed",
    "drift found": "drift",
}
"""What is drawn: attempts (`immuproxy.audit.views.chart`), put together as people think of them."""

SERIES = ("accepted", "unchanged", "refused", "failed", "drift")

DELETES = (Outcome.DELETED, Outcome.REFUSED, Outcome.MISSING, Outcome.FAILED)
"""How a delete ends."""


def buckets(chart: Chart) -> list[dict[str, Any]]:
    """One dict a bucket, oldest first, with a number for each of `SERIES`."""
    found: list[dict[str, Any]] = [
        {"since": since, "until": until, **dict.fromkeys(SERIES, 0)} for since, until in pairwise(chart.edges)
    ]
    for series in chart.series:
        group = GROUPS.get(series.value)
        if group:
            for bucket, count in zip(found, series.counts, strict=True):
                bucket[group] += count
    return found


def totals(chart: Chart) -> dict[str, int]:
    """The same summed up."""
    rows = buckets(chart)
    return {name: sum(row[name] for row in rows) for name in SERIES}


def deletes(chart: Chart) -> dict[str, int]:
    """How many deletes ended how."""
    sums = {series.value: series.total for series in chart.series}
    return {outcome.value: sums.get(f"delete {outcome}", 0) for outcome in DELETES}


def sentence(sums: Mapping[str, int], label: str) -> str:
    """The chart in one sentence, for those who do not see it."""
    return (
        f"Pushes {label}: {sums['accepted']} accepted, {sums['unchanged']} unchanged, "
        f"{sums['refused']} refused, {sums['failed']} failed. Drift was found {_times(sums['drift'])}."
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def bucket_search(bucket: Mapping[str, Any]) -> str:
    """The search that finds what a bucket counts."""
    return f"since:{iso_seconds(bucket['since'])} until:{iso_seconds(bucket['until'])}"


@dataclass(frozen=True, slots=True)
class Tops:
    """The most frequent values over the range."""

    refused_tags: Sequence[Tally]
    refused_actors: Sequence[Tally]
    repositories: Sequence[Tally]


def _tag_tally(tally: Tally) -> dict[str, Any]:
    repository, _, tag = tally.value.rpartition(":")
    return {"repository": repository, "tag": tag, "count": tally.count}


def overview_context(
    chosen: TimeRange | Period,
    chart: Chart,
    tops: Tops,
    latest_refusals: Sequence[Event],
    *,
    shadowed: int,
    recorded: int,
    in_force: RulesInForce,
    parts: Sequence[Dependency],
    now: int,
) -> dict[str, Any]:
    """``chart`` counts attempts, ``shadowed`` what shadow rules would have refused, ``recorded`` all that is held."""
    sums = totals(chart)
    rows = [bucket | {"search": bucket_search(bucket)} for bucket in buckets(chart)]
    rows[-1]["until"] = until = min(chart.edges[-1], now)  # the last step has only begun
    return {
        "range": {
            "name": chosen.name,
            "label": chosen.label,
            "since": chart.edges[0],
            "until": until,
            "asked": chosen.asked(),
            "search": chosen.search,
            "choices": list(RANGES),
            "sentence": sentence(sums, chosen.label),
        },
        "recorded": recorded,
        "totals": sums | {"shadow": shadowed},
        "deletes": deletes(chart),
        "buckets": rows,
        "refused_tags": [_tag_tally(tally) for tally in tops.refused_tags],
        "refused_actors": [{"actor": tally.value, "count": tally.count} for tally in tops.refused_actors],
        "active_repositories": [{"name": tally.value, "count": tally.count} for tally in tops.repositories],
        "latest_refusals": [event.to_dict() for event in latest_refusals],
        "rules": in_force.to_dict(),
        "status": status_dict(parts),
    }
