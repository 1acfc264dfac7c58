from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from immuproxy.ledger.search import SearchError, parse
from immuproxy.web import parameters
from immuproxy.web.problems import Problem
from tests.web.events import NOW


@given(st.text(max_size=12) | st.integers(min_value=-5, max_value=1005).map(str))
def test_a_limit_is_a_number_in_its_bounds_or_an_error(text: str) -> None:
    fits = text.isascii() and text.isdigit() and len(text) < 7 and 1 <= int(text) <= 1000
    with contextlib.nullcontext() if fits else pytest.raises(Problem, check=lambda each: each.parameter == "limit"):
        assert parameters.limit_of(MultiDict(limit=text), 50) == int(text)


def test_filters_and_the_search_are_put_together() -> None:
    query = MultiDict([("q", "actor:ci since:7d"), ("outcome", "refused"), ("outcome", "failed"), ("since", "1h")])
    search = parameters.search_of(query, NOW)
    assert search.to_text() == "actor:ci outcome:refused outcome:failed since:1h"


@given(st.text(max_size=40))
def test_any_search_is_read_or_named_as_wrong(text: str) -> None:
    try:
        parse(text, NOW)
    except SearchError:
        with pytest.raises(Problem, check=lambda each: (each.status, each.parameter) == (400, "q")):
            parameters.search_of(MultiDict(q=text), NOW)
    else:
        assert parameters.search_of(MultiDict(q=text), NOW) == parse(text, NOW)


@pytest.mark.parametrize("text", ["", "app", "app:", ":1", "App:1", "app:1:2/3", "team/app@sha256:ab"])
def test_what_is_no_tag_is_an_error(text: str) -> None:
    with pytest.raises(Problem):
        parameters.tag_of(MultiDict(tag=text))


def test_a_tag_is_its_two_parts() -> None:
    assert parameters.tag_of(MultiDict(tag="team/app:1.0")) == ("team/app", "1.0")
