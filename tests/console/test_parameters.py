from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from immuproxy.audit.search import SearchError, parse
from immuproxy.console import parameters
from immuproxy.console.overview.figures import LONGEST
from immuproxy.console.problems import RequestProblem
from immuproxy.console.wording import iso_seconds
from tests.console.events import NOW


@given(st.text(max_size=12) | st.integers(min_value=-5, max_value=1005).map(str))
def test_a_limit_is_a_number_in_its_bounds_or_an_error(text: str) -> None:
    fits = text.isascii() and text.isdigit() and len(text) < 7 and 1 <= int(text) <= 1000
    with (
        contextlib.nullcontext()
        if fits
        else pytest.raises(RequestProblem, check=lambda each: each.parameter == "limit")
    ):
        assert parameters.limit_of(MultiDict(limit=text), 50) == int(text)


DAY = 86_400_000


@given(st.integers(0, 367 * DAY), st.integers(-DAY, 366 * DAY))
def test_a_period_is_shown_whole_in_a_drawable_number_of_buckets(back: int, long: int) -> None:
    since, until = NOW - back, NOW - back + long
    query = MultiDict(since=iso_seconds(since), until=iso_seconds(until))
    asked_since, asked_until = since // 1000 * 1000, min(until // 1000 * 1000, NOW)
    if not 0 < asked_until - asked_since <= LONGEST:
        with pytest.raises(RequestProblem, check=lambda each: each.parameter == "since"):
            parameters.range_of(query, NOW)
        return
    period = parameters.range_of(query, NOW)
    begin, end = period.edges(NOW)
    assert begin <= asked_since < asked_until <= end
    assert end - begin == period.buckets * period.step
    assert end - begin < asked_until - asked_since + 2 * period.step
    assert 1 <= period.buckets <= 64
    found = parse(period.search, NOW)
    assert found.since
    assert found.until
    assert (found.since.at, found.until.at) == (begin, end)


def test_a_period_is_as_it_was_written_and_ends_now_at_the_latest() -> None:
    period = parameters.range_of(MultiDict(since="14d", until=""), NOW)
    assert period.asked() == {"since": "14d", "until": ""}
    begin, end = period.edges(NOW)
    assert begin <= NOW - 14 * DAY
    assert NOW <= end < NOW + period.step
    assert parameters.range_of(MultiDict(since="14d", until="2100-01-01"), NOW).edges(NOW) == (begin, end)
    assert parameters.range_of(MultiDict(since="", until=" "), NOW).name == "24h"


def test_filters_stand_beside_the_search() -> None:
    query = MultiDict([("q", "actor:ci since:7d"), ("outcome", "refused"), ("outcome", "failed"), ("since", "1h")])
    assert parameters.search_of(query, NOW).to_text() == "actor:ci since:7d"
    assert parameters.filters_of(query, NOW).to_text() == "outcome:refused outcome:failed since:1h"


@given(st.text(max_size=40))
def test_any_search_is_read_or_named_as_wrong(text: str) -> None:
    try:
        parse(text, NOW)
    except SearchError:
        with pytest.raises(RequestProblem, check=lambda each: (each.status, each.parameter) == (400, "q")):
            parameters.search_of(MultiDict(q=text), NOW)
    else:
        assert parameters.search_of(MultiDict(q=text), NOW) == parse(text, NOW)


@pytest.mark.parametrize("text", ["", "app", "app:", ":1", "App:1", "app:1:2/3", "team/app@sha256:ab"])
def test_what_is_no_tag_is_an_error(text: str) -> None:
    with pytest.raises(RequestProblem):
        parameters.tag_of(MultiDict(tag=text))


def test_a_tag_is_its_two_parts() -> None:
    assert parameters.tag_of(MultiDict(tag="team/app:1.0")) == ("team/app", "1.0")
