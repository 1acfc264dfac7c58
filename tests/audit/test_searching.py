"""Searches of the index give what docs/audit.md says: the same events, in the same order, each once, and they end."""

from __future__ import annotations

import pytest

from immuproxy.audit import conditions, paging
from immuproxy.audit.search import Search
from tests.audit import naive
from tests.audit.searching import check, world


def test_random_searches_agree_with_an_evaluator_written_from_the_documentation() -> None:
    made = world(seed=4, count=300)
    assert sum(check(made) for _ in range(150)) > 50


def test_they_agree_where_everything_is_too_much_to_be_looked_up_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "MOST_WORDS", 2)
    monkeypatch.setattr(paging, "MOST_HITS", 20)
    monkeypatch.setattr(paging, "_FEWEST", 5)
    made = world(seed=5, count=200)
    assert sum(check(made) for _ in range(100)) > 30


def test_the_evaluator_sees_a_difference() -> None:
    made = world(seed=6, count=100)
    made.events = made.events[:50] + made.events[51:]
    with pytest.raises(AssertionError):
        for _ in range(100):
            check(made)


def test_every_event_is_read_back_as_it_was_written() -> None:
    made = world(seed=7, count=200)
    walked = paging.walk(made.connection, [], 1_000)
    assert [each.event for each in walked.found] == made.newest_first
    assert walked.whole
    assert naive.found([Search()], made.newest_first) == [each.event.id for each in walked.found]
