"""The overview: how many pushes, what was refused, what is in force.  PURE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from immuproxy.ledger.audit import Chart, Tally
from immuproxy.ledger.model import Event, Outcome
from immuproxy.web.sources import Part, RulesInForce
from immuproxy.web.wording import iso_seconds

_MINUTE = 60_000
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR


@dataclass(frozen=True, slots=True)
class Range:
    """A stretch of time up to now, cut into equal buckets; ``text`` is how a search says it."""

    name: str
    label: str
    step: int
    buckets: int

    def edges(self, now: int) -> tuple[int, int]:
        """Begin and end in ms, on whole steps, so that the same bucket is the same at each reload."""
        end = -(-now // self.step) * self.step
        return end - self.step * self.buckets, end


RANGES = {
    choice.name: choice
    for choice in (
        Range("1h", "in the last hour", _MINUTE, 60),
        Range("24h", "in the last 24 hours", 30 * _MINUTE, 48),
        Range("7d", "in the last 7 days", 3 * _HOUR, 56),
        Range("30d", "in the last 30 days", 12 * _HOUR, 60),
        Range("90d", "in the last 90 days", _DAY, 90),
    )
}
USUAL_RANGE = "24h"

GROUPS: Mapping[str, str] = {
    Outcome.CREATED: "accepted",
    Outcome.OVERWRITTEN: "accepted",
    Outcome.UNCHANGED: "unchanged",
    Outcome.REFUSED: "refused",
    Outcome.FAILED: "failed",
    Outcome.FOUND: "drift",
}
SERIES = ("accepted", "unchanged", "refused", "failed", "drift")


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


def rules_dict(in_force: RulesInForce) -> dict[str, Any]:
    """The rules file, without its text."""
    return {
        "source": in_force.rules.source,
        "digest": in_force.rules.digest,
        "since": in_force.since or None,
        "error": in_force.error or None,
        "rules": len(in_force.rules.rules),
    }


def status_dict(parts: Sequence[Part]) -> dict[str, Any]:
    """Whether everything that the proxy leans on answers."""
    return {
        "ready": all(part.ok for part in parts),
        "parts": [{"name": part.name, "ok": part.ok, "detail": part.detail} for part in parts],
    }


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
    chosen: Range,
    chart: Chart,
    tops: Tops,
    latest_refusals: Sequence[Event],
    *,
    recorded: int,
    in_force: RulesInForce,
    parts: Sequence[Part],
) -> dict[str, Any]:
    """``recorded`` counts all events that the audit holds."""
    sums = totals(chart)
    return {
        "range": {
            "name": chosen.name,
            "label": chosen.label,
            "since": chart.edges[0],
            "until": chart.edges[-1],
            "choices": list(RANGES),
            "sentence": sentence(sums, chosen.label),
        },
        "recorded": recorded,
        "totals": sums,
        "buckets": [bucket | {"search": bucket_search(bucket)} for bucket in buckets(chart)],
        "refused_tags": [_tag_tally(tally) for tally in tops.refused_tags],
        "refused_actors": [{"actor": tally.value, "count": tally.count} for tally in tops.refused_actors],
        "active_repositories": [{"name": tally.value, "count": tally.count} for tally in tops.repositories],
        "latest_refusals": [event.to_dict() for event in latest_refusals],
        "rules": rules_dict(in_force),
        "status": status_dict(parts),
    }
