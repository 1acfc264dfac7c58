from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from immuproxy.audit.search import (
    LONGEST,
    MOST_TERMS,
    Moment,
    Search,
    SearchError,
    Term,
    from_parameters,
    has_wildcard,
    parse,
)
from immuproxy.ledger.model import Action, Outcome

NOW = 1_767_225_600_000  # 2026-01-01T00:00Z
DAY = 86_400_000


def terms(text: str) -> list[tuple[str, str]]:
    return [(term.key, term.value) for term in parse(text, NOW).terms]


def refusal(text: str) -> SearchError:
    with pytest.raises(SearchError) as caught:
        parse(text, NOW)
    return caught.value


def test_a_whole_search_is_read_word_by_word() -> None:
    search = parse(
        'repo:team/** tag:v1* outcome:refused ip:10.0.0.0/8 since:7d until:2026-01-01 "no such" -actor:ci', NOW
    )
    assert search == Search(
        (
            Term("repo", "team/**"),
            Term("tag", "v1*"),
            Term("outcome", "refused"),
            Term("ip", "10.0.0.0/8"),
            Term("text", "no such"),
            Term("actor", "ci", exclude=True),
        ),
        since=Moment(NOW - 7 * DAY, "7d"),
        until=Moment(NOW, "2026-01-01"),
    )


@pytest.mark.parametrize("text", ["", "   ", "\t\n", '""'])
def test_nothing_asked_is_everything(text: str) -> None:
    assert parse(text, NOW) == Search()


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("repository:a", ("repo", "a")),
        ("REPO:a", ("repo", "a")),
        ("client_address:10.1.2.3", ("ip", "10.1.2.3")),
        ("ip:10.1.2.3/8", ("ip", "10.0.0.0/8")),
        ("ip:10.1.2.3/32", ("ip", "10.1.2.3")),
        ("ip:2001:DB8::/32", ("ip", "2001:db8::/32")),
        ("digest:AB", ("digest", "sha256:ab")),
        ("digest:sha256:ab*", ("digest", "sha256:ab")),
        ("sha256:abcd", ("digest", "sha256:abcd")),
        ("outcome:REFUSED", ("outcome", "refused")),
        ("action:delete-*", ("action", "delete-*")),
        ("shadow:true", ("shadow", "yes")),
        ("team/app:1.4", ("text", "team/app:1.4")),
        ('"app:1.4"', ("text", "app:1.4")),
        ('actor:"release bot"', ("actor", "release bot")),
        (r'actor:"a \"b\" \\ c"', ("actor", r'a "b" \ c')),
        ('actor:""', ("actor", "")),
        ('agent:"line\nbreak"', ("agent", "line\nbreak")),
    ],
)
def test_a_word_becomes_a_term(text: str, term: tuple[str, str]) -> None:
    assert terms(text) == [term]


def test_quotes_take_the_meaning_from_wildcards() -> None:
    pattern, literal = parse("rule:a*", NOW).terms + parse('rule:"a*"', NOW).terms
    assert (pattern.exact, literal.exact) == (False, True)


@pytest.mark.parametrize(
    ("text", "offset", "length", "part", "suggestion"),
    [
        ("tag:a outcom:refused", 6, 14, "did you mean outcome:refused?", "outcome:refused"),
        ("outcome:refusd", 0, 14, "did you mean refused?", "outcome:refused"),
        ("-outcome:refusd", 0, 15, "did you mean refused?", "-outcome:refused"),
        ("action:zzz", 0, 10, "action is one of push", ""),
        ("outcome:zz*", 0, 11, "outcome is one of", ""),
        ("  app:v1", 2, 6, 'write "app:v1"', '"app:v1"'),
        ("repo:", 0, 5, "needs a value", ""),
        ("x repo: y", 2, 5, "needs a value", ""),
        ('tag:a "open', 6, 5, "never closed", '"open"'),
        ('a"b" c', 0, 4, "whole value", ""),
        ("-", 0, 1, "excludes the word", ""),
        ("ip:10.1.2", 0, 9, "no address", ""),
        ("ip:300.1.2.3/8", 0, 14, "no address", ""),
        ("digest:xyz", 0, 10, "sha256:", ""),
        ("digest:" + "a" * 65, 0, 72, "sha256:", ""),
        ("shadow:maybe", 0, 12, "yes or no", ""),
        ("since:yesterday", 0, 15, "duration back from now", ""),
        ("since:1d since:2d", 9, 8, "twice", ""),
        ("-since:1d", 0, 9, "cannot be excluded", ""),
    ],
)
def test_an_error_points_at_the_word(text: str, offset: int, length: int, part: str, suggestion: str) -> None:
    error = refusal(text)
    assert part in error.message
    assert (error.offset, error.length, error.suggestion) == (offset, length, suggestion)


def test_length_and_number_of_terms_are_bounded() -> None:
    assert "characters" in refusal("x" * (LONGEST + 1)).message
    assert "terms" in refusal(" ".join(f"w{number}" for number in range(MOST_TERMS + 1))).message


def test_a_pattern_of_many_stars_does_not_hang() -> None:
    started = time.perf_counter()
    refusal("action:" + "*d" * 900 + "x")
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("7d", NOW - 7 * DAY),
        ("1h30m", NOW - 5_400_000),
        ("2025-12-31", NOW - DAY),
        ("2025-12-31T23:59:59.5Z", NOW - 500),
        ("2026-01-01T01:00+01:00", NOW),
        ("2026-01-01T00:00", NOW),
        ("1900-01-01", 0),
    ],
)
def test_times_are_durations_or_dates(text: str, at: int) -> None:
    assert parse(f"since:{text} until:{text}", NOW) == Search((), Moment(at, text), Moment(at, text))


def test_parameters_are_the_same_as_words() -> None:
    built = from_parameters(
        NOW, repository=["team/**", "x"], tag="v1*", actor="", outcome="refused", since="7d", text=["no such", "app:1"]
    )
    assert built == parse('repo:team/** repo:x tag:v1* outcome:refused since:7d "no such" "app:1"', NOW)


def test_a_bad_parameter_is_named() -> None:
    with pytest.raises(SearchError, match="one of") as caught:
        from_parameters(NOW, outcome="refusd")
    assert (caught.value.key, caught.value.suggestion) == ("outcome", "refused")


def test_a_click_narrows_and_widens() -> None:
    search = parse("actor:a actor:b outcome:refused", NOW)
    assert search.with_term("actor", "a").to_text() == "outcome:refused actor:a"
    assert search.with_term("tag", "v*1").to_text() == 'actor:a actor:b outcome:refused tag:"v*1"'
    without_ci = search.with_term("actor", "b", exclude=True)
    assert without_ci.to_text() == "actor:a outcome:refused -actor:b"
    assert without_ci.with_term("actor", "b").to_text() == "outcome:refused actor:b"


def test_every_choice_of_the_model_is_known() -> None:
    for outcome in Outcome:
        assert terms(f"outcome:{outcome}") == [("outcome", outcome)]
    for action in Action:
        assert terms(f"action:{action}") == [("action", action)]


_VALUES = st.one_of(
    st.text(max_size=20),
    st.text(alphabet='ab*?"\\ :-\n', max_size=8),
    st.sampled_from(["sha256:ab", "repo:x", "-x", "**/app", 'say "hi"', "\u2028", "\x1c", "\x85"]),
)


@st.composite
def searches(draw: st.DrawFn) -> Search:
    """Searches as clicks and typing make them."""
    search = Search(since=draw(st.sampled_from([None, Moment(NOW - DAY, "1d")])))
    for key in draw(st.lists(st.sampled_from(["repo", "tag", "actor", "rule", "agent", "text"]), max_size=6)):
        value = draw(_VALUES.filter(bool) if key == "text" else _VALUES)
        if draw(st.booleans()):
            search = search.with_term(key, value, exclude=draw(st.booleans()))
        elif value and has_wildcard(value) and not set(value) & set('"\\') and not any(c.isspace() for c in value):
            search = parse(f"{search.to_text()} {key}:{value}" if key != "text" else search.to_text(), NOW)
    return search


# The first draw of a process reads the tables of all characters.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(searches())
def test_a_search_survives_its_own_text(search: Search) -> None:
    assert parse(search.to_text(), NOW) == search


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.text(max_size=60) | st.text(alphabet='ab":-* \\\n', max_size=30))
def test_any_text_is_read_or_refused_with_a_place_inside_it(text: str) -> None:
    try:
        search = parse(text, NOW)
    except SearchError as error:
        assert 0 <= error.offset < error.offset + error.length <= len(text)  # noqa: PT017  # it may be read as well
    else:
        assert parse(search.to_text(), NOW) == search
