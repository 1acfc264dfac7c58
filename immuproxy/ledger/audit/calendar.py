"""Counters by hour, day and week: their keys, and which of them make up a span of time.  No I/O here.

Hours, days and weeks are counted from 1970 in UTC, by the event's own time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from immuproxy.ledger import keys
from immuproxy.ledger.model import Outcome

HOUR_MS = 3_600_000
DAY_HOURS = 24
DAY_MS = HOUR_MS * DAY_HOURS
WEEK_DAYS = 7

RANKED_OUTCOMES = (Outcome.REFUSED.value, Outcome.FAILED.value)
"""Outcomes whose tags, repositories, actors and rules are counted by hour, day and week."""

RANKED_FIELDS = ("repo", "tag", "actor", "rule")

EVERY = "every"
"""Stands for all outcomes; of those the repositories are counted, by day and week."""

_LONGEST_SPAN_MS = 3_660 * DAY_MS


def hourly_key(outcome: str, field: str, hour: int) -> str:
    """Sorted set: how often each value had this outcome in one hour."""
    return keys.audit(f"hour:{outcome}:{field}:{hour}")


def daily_key(outcome: str, field: str, day: int) -> str:
    """Sorted set: the same for one day."""
    return keys.audit(f"day:{outcome}:{field}:{day}")


def weekly_key(outcome: str, field: str, week: int) -> str:
    """Sorted set: the same for one week."""
    return keys.audit(f"week:{outcome}:{field}:{week}")


def counted(time: int, outcome: str, values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The counters that an event adds to, each with its member; ``values`` by the names of `RANKED_FIELDS`."""
    hour = time // HOUR_MS
    day = hour // DAY_HOURS
    if outcome in RANKED_OUTCOMES:
        for field, value in values.items():
            if value:
                yield hourly_key(outcome, field, hour), value
                yield daily_key(outcome, field, day), value
                yield weekly_key(outcome, field, day // WEEK_DAYS), value
    if repository := values["repo"]:
        yield daily_key(EVERY, "repo", day), repository
        yield weekly_key(EVERY, "repo", day // WEEK_DAYS), repository


def span_keys(outcome: str, field: str, since: int, until: int) -> Iterator[str]:
    """The counters of the hours from ``since`` to before ``until``: whole weeks and days where they lie inside."""
    hour, end = max(since, until - _LONGEST_SPAN_MS) // HOUR_MS, -(-until // HOUR_MS)
    while hour < end:
        day, rest = divmod(hour, DAY_HOURS)
        if rest or hour + DAY_HOURS > end:
            yield hourly_key(outcome, field, hour)
            hour += 1
        elif day % WEEK_DAYS or hour + WEEK_DAYS * DAY_HOURS > end:
            yield daily_key(outcome, field, day)
            hour += DAY_HOURS
        else:
            yield weekly_key(outcome, field, day // WEEK_DAYS)
            hour += WEEK_DAYS * DAY_HOURS


def touched_keys(field: str, since: int, until: int) -> Iterator[str]:
    """The counters of all outcomes for every day that the span touches, by weeks where they lie inside."""
    day, end = max(since, until - _LONGEST_SPAN_MS) // DAY_MS, -(-until // DAY_MS)
    while day < end:
        if day % WEEK_DAYS or day + WEEK_DAYS > end:
            yield daily_key(EVERY, field, day)
            day += 1
        else:
            yield weekly_key(EVERY, field, day // WEEK_DAYS)
            day += WEEK_DAYS


RANKINGS = (
    *((outcome, field) for outcome in RANKED_OUTCOMES for field in RANKED_FIELDS),
    (EVERY, "repo"),
)
"""Every outcome and field that is counted."""
