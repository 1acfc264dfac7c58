"""The counters that make up a span cover each of its hours once, with as few keys as there are."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from immuproxy.ledger.audit import calendar
from immuproxy.ledger.audit.calendar import DAY_HOURS, DAY_MS, HOUR_MS, WEEK_DAYS

_HOURS = {"hour": 1, "day": DAY_HOURS, "week": DAY_HOURS * WEEK_DAYS}
_TIMES = st.integers(0, 200 * DAY_MS)


def hours_of(key: str) -> range:
    found = re.search(r"(hour|day|week):\w+:\w+:(\d+)$", key)
    assert found
    size = _HOURS[found[1]]
    return range(int(found[2]) * size, (int(found[2]) + 1) * size)


@given(_TIMES, _TIMES)
def test_a_span_is_every_hour_that_it_touches_once(one: int, other: int) -> None:
    since, until = sorted((one, other + 1))
    keys = list(calendar.span_keys("refused", "tag", since, until))
    covered = [hour for key in keys for hour in hours_of(key)]
    assert covered == list(range(since // HOUR_MS, -(-until // HOUR_MS)))
    assert len(keys) <= 2 * (DAY_HOURS - 1) + 2 * (WEEK_DAYS - 1) + (until - since) // (WEEK_DAYS * DAY_MS)


@given(_TIMES, _TIMES)
def test_the_touched_days_are_whole_days(one: int, other: int) -> None:
    since, until = sorted((one, other + 1))
    covered = [hour for key in calendar.touched_keys("repo", since, until) for hour in hours_of(key)]
    days = range(since // DAY_MS, -(-until // DAY_MS))
    assert covered == list(range(days.start * DAY_HOURS, days.stop * DAY_HOURS))


def test_an_event_counts_in_its_hour_day_and_week() -> None:
    values = {"repo": "a", "tag": "a:b", "actor": "", "rule": "r"}
    time = 15 * DAY_MS + 3 * HOUR_MS + 5
    counted = list(calendar.counted(time, "refused", values))
    assert (calendar.hourly_key("refused", "tag", 15 * 24 + 3), "a:b") in counted
    assert (calendar.daily_key("refused", "rule", 15), "r") in counted
    assert (calendar.weekly_key("every", "repo", 2), "a") in counted
    assert not [key for key, _ in counted if ":actor:" in key]
    assert [key.split(":")[2:] for key, _ in calendar.counted(time, "created", values)] == [
        ["day", "every", "repo", "15"],
        ["week", "every", "repo", "2"],
    ]
