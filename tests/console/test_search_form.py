from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immuproxy.audit.search import SearchError, parse
from immuproxy.audit.values import Tally
from immuproxy.console.audit import search_form
from tests.console.events import NOW


def test_the_offending_word_is_pointed_at() -> None:
    text = "repo:team/** outcme:refused actor:ci"
    with pytest.raises(SearchError) as raised:
        parse(text, NOW)
    problem = search_form.search_problem(text, raised.value)
    assert problem["word"] == "outcme:refused"
    assert problem["before"] + problem["word"] + problem["after"] == text
    assert problem["suggestion"] == "repo:team/** outcome:refused actor:ci"


@given(st.text(max_size=60))
def test_whatever_is_typed_is_shown_whole(text: str) -> None:
    try:
        parse(text, NOW)
    except SearchError as error:
        problem = search_form.search_problem(text, error)
        assert problem["before"] + problem["word"] + problem["after"] == text


def test_one_click_takes_the_place_of_another_outcome() -> None:
    choices = {
        label: (search, chosen) for label, search, chosen in search_form.outcome_choices(parse("outcome:failed a", NOW))
    }
    assert choices["failed"][1]
    assert choices["refused"] == ("a outcome:refused", False)
    assert choices["all"] == ("a", False)


def test_one_click_takes_the_place_of_another_time() -> None:
    choices = {label: (search, chosen) for label, search, chosen in search_form.time_choices(parse("a since:7d", NOW))}
    assert choices["7d"][1]
    assert choices["24h"] == ("a since:24h", False)
    assert choices["any time"] == ("a", False)


@pytest.mark.parametrize("search", ["", "a since:7d", "outcome:refused -actor:ci", 'rule:"two words"'])
def test_every_choice_is_a_search_that_can_be_read(search: str) -> None:
    found = parse(search, NOW)
    for _, text, _ in search_form.outcome_choices(found) + search_form.time_choices(found):
        parse(text, NOW)


@pytest.mark.parametrize(
    ("text", "key", "prefix", "minus"),
    [
        ("", "", "", ""),
        ("outc", "", "outc", ""),
        ("a outcome:re", "outcome", "re", ""),
        ("-actor:c", "actor", "c", "-"),
        ('rule:"mo', "rule", "mo", ""),
        ("a ", "", "", ""),
    ],
)
def test_the_word_under_the_cursor(text: str, key: str, prefix: str, minus: str) -> None:
    wanted = search_form.word_at(text, len(text))
    assert (wanted.key, wanted.prefix, wanted.minus) == (key, prefix, minus)


def test_the_whole_word_around_the_cursor_is_replaced() -> None:
    wanted = search_form.word_at("a outcome:refused b", 12)
    assert (wanted.start, wanted.end) == (2, 17)


def test_a_suggested_value_can_be_read_back() -> None:
    wanted = search_form.word_at("-rule:", 6)
    found = search_form.value_suggestions(wanted, [Tally("two words", 5), Tally("", 3)])
    assert found == [{"text": '-rule:"two words"', "about": "5"}]
    assert parse(found[0]["text"], NOW).terms[0].value == "two words"


def test_keys_are_suggested_as_typed() -> None:
    found = {suggestion["text"] for suggestion in search_form.key_suggestions(search_form.word_at("-ac", 3))}
    assert found == {"-action:", "-actor:"}


@pytest.mark.parametrize("example", [example for example, _ in search_form.SYNTAX])
def test_the_examples_of_the_help_are_searches(example: str) -> None:
    assert parse(example, NOW).terms or example.startswith("since")
