from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from immuproxy.rules import index
from immuproxy.rules.index import RuleIndex
from immuproxy.rules.patterns import Axis, PatternList, parse

Pair = tuple[PatternList, PatternList]


def pair(repositories: Sequence[str], tags: Sequence[str]) -> Pair:
    return (
        PatternList(tuple(parse(text, Axis.REPOSITORY) for text in repositories)),
        PatternList(tuple(parse(text, Axis.TAG) for text in tags)),
    )


def one_by_one(rules: list[Pair], repository: str, tag: str) -> int | None:
    """What the index must answer, the slow way."""
    matching = (
        n for n, (repositories, tags) in enumerate(rules) if repositories.matches(repository) and tags.matches(tag)
    )
    return next(matching, None)


repositories = st.sampled_from(["a", "b", "a/b", "a/*", "a/**", "**", "*", "re:a/.*", "!a", "!a/*", "!re:b|a/b"])
tags = st.sampled_from(
    ["1.0.0", "v*", "*", "latest", "semver:>=1", "semver:<1 || 2.x", "semver:>=1.0.0-0", "!latest", "!semver:1"]
)
pairs = st.builds(pair, st.lists(repositories, max_size=3), st.lists(tags, max_size=3))


@settings(deadline=None, max_examples=30)
@given(
    st.lists(pairs, max_size=5),
    st.sampled_from(["a", "b", "a/b", "a/b/c", "c"]),
    st.sampled_from(["1.0.0", "v1.0.0", "0.9.0", "2.1.0", "1.0.0-rc", "latest", "x"]),
)
def test_the_index_finds_the_first_match(rules: list[Pair], repository: str, tag: str) -> None:
    built = RuleIndex(rules)
    expected = one_by_one(rules, repository, tag)
    assert built.first(repository, tag) == expected
    assert built.first(repository, tag) == expected


def test_no_rules_match_nothing() -> None:
    assert RuleIndex([]).first("a", "b") is None


MANY = [pair([f"*/app-{n}", f"!x/app-{n}"], [f"re:v{n}(-[0-9]+)*"]) for n in range(200)]


def assert_right(built: RuleIndex) -> None:
    for n in (0, 17, 199):
        assert built.first(f"team/app-{n}", f"v{n}-1") == n
        assert built.first(f"x/app-{n}", f"v{n}-1") is None
        assert built.first(f"team/app-{n}", "other") is None


def test_sets_that_do_not_fit_their_memory_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_SET_MEMORY", 16 * 1024)
    built = RuleIndex(MANY)
    assert len(built._repositories._sets) > 1
    assert_right(built)


def test_a_match_that_runs_out_of_memory_protects_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    built = RuleIndex(MANY)
    for _, regexes in [*built._repositories._sets, *built._tags._sets]:
        monkeypatch.setattr(regexes, "_set", _Speechless())
    assert_right(built)


class _Speechless:
    """RE2's set when its automaton has no memory left: it says that nothing matches."""

    def Match(self, text: bytes) -> None:  # noqa: N802  # the name in RE2
        return None


def test_ten_thousand_rules_are_searched_in_microseconds() -> None:
    tag_lists = [pair([], [f"v{n}.*", "latest"])[1] for n in range(50)]
    rules = [(pair([f"team-{n}/**"], [])[0], tag_lists[n % 50]) for n in range(10_000)]
    built = RuleIndex(rules)
    assert built.first("team-1/app", "v1.0") == 1
    names = [(f"team-{n}/app-{n}", f"v{n % 50}.{n}") for n in range(0, 10_000, 20)]
    began = time.perf_counter()
    found = [built.first(*name) for name in names]
    assert found == list(range(0, 10_000, 20))
    assert (time.perf_counter() - began) / len(names) < 0.000_5
