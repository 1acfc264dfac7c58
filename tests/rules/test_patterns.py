from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from immuproxy.rules.patterns import MAX_LENGTH, Axis, PatternError, PatternList, parse


def takes(patterns: list[str], name: str, axis: Axis) -> bool:
    return PatternList(tuple(parse(pattern, axis) for pattern in patterns)).matches(name)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("team/*", "team/a team/a.b", "team team/a/b xteam/a"),
        ("team/**", "team/a team/a/b", "team teams/a"),
        ("**", "a a/b/c", ""),
        ("*", "a a-b", "a/b"),
        ("**/app", "app team/app a/b/app", "team/xapp app/x"),
        ("a/**/z", "a/z a/b/z a/b/c/z", "a/bz az"),
        ("team**", "team team-x team/a/b", "a/team"),
        ("team-?/app", "team-a/app", "team-ab/app team-//app"),
        ("t[ab]/x", "ta/x tb/x", "tc/x"),
        ("t[!ab]/x", "tc/x", "ta/x t//x"),
        ("{team,lab}/*", "team/a lab/b", "other/a"),
        ("{a,b{c,d}}/x", "a/x bc/x bd/x", "b/x"),
        ("team/app", "team/app", "team/app2 xteam/app team/ap"),
        ("a.b/*", "a.b/c", "axb/c"),
        ("re:team/[0-9]+", "team/1 team/42", "team/x team/1/2 xteam/1"),
        ("re:a|b", "a b", "ab xa"),
    ],
)
def test_patterns_of_repositories(pattern: str, yes: str, no: str) -> None:
    assert [name for name in yes.split() if not takes([pattern], name, Axis.REPOSITORY)] == []
    assert [name for name in no.split() if takes([pattern], name, Axis.REPOSITORY)] == []


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("latest", "latest", "Latest latest1"),
        ("dev-*", "dev- dev-1.x_Y", "dev xdev-1"),
        ("*", "a A_.-", ""),
        ("v?", "v1", "v v10"),
        (r"re:v\d+(\.\d+)*", "v1 v1.2.3", "v1. v xv1"),
        ("re:(?i)nightly", "Nightly", "nightly1"),
        ("semver:^1.2", "1.2.3 v1.9.0", "2.0.0 1.2 latest 1.2.3-rc.1"),
    ],
)
def test_patterns_of_tags(pattern: str, yes: str, no: str) -> None:
    assert [name for name in yes.split() if not takes([pattern], name, Axis.TAG)] == []
    assert [name for name in no.split() if takes([pattern], name, Axis.TAG)] == []


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("ci-*", ["ci-", "ci-build 7", "ci-a@b.c"], ["ci", "xci-1", "ci-a/b", "CI-1"]),
        ("*", ["anna", "a b", "jürgen"], ["a/b"]),
        ("**", ["anna", "a/b/c"], []),
        ("CORP/*", ["CORP/anna"], ["CORP/a/b", "corp/anna"]),
        ("anna@example.org", ["anna@example.org"], ["anna@exampleXorg", "xanna@example.org"]),
        ("*@example.org", ["anna@example.org"], ["anna@example.org.evil"]),
        ("robot$team+ci", ["robot$team+ci"], ["robot$team+ci2"]),
        ("robot$team+*", ["robot$team+ci"], ["robotteam+ci"]),
        ("system:serviceaccount:ci:*", ["system:serviceaccount:ci:builder"], ["system:serviceaccount:cd:x"]),
        ("CN=Anna,OU=*", ["CN=Anna,OU=Ops"], ["CN=Anna OU=Ops"]),
        ("jürgen", ["jürgen"], ["jurgen"]),
        ("jür?en", ["jürgen", "jüréen"], ["jüren"]),
        ("{anna,bert}", ["anna", "bert"], ["{anna,bert}"]),
        ("ci-[0-9]", ["ci-7"], ["ci-x", "ci-77"]),
        ("re:ci-[0-9]+", ["ci-77"], ["ci-", "xci-7", "ci-7x"]),
        (r"re:github-actions\[bot\]", ["github-actions[bot]"], ["github-actionsb"]),
        ("re:.ü", ["éü", "xü", "€ü"], ["ü"]),
        ("!eve", ["anna", "eve2"], ["eve"]),
    ],
)
def test_patterns_of_users(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [name for name in yes if not takes([pattern], name, Axis.USER)] == []
    assert [name for name in no if takes([pattern], name, Axis.USER)] == []


@pytest.mark.parametrize(
    ("pattern", "words", "hint"),
    [
        ("semver:^1", '"semver:" is for tags', "tags"),
        ("a\tb", "can never match", ""),
        ("re:(", "not valid", ""),
        ("{a", "is not closed", ""),
        ("github-actions[bot]", '"[bot]" would be one character', r"re:github-actions\[bot\]"),
        ("!", "the pattern is empty", ""),
    ],
)
def test_a_pattern_of_users_that_cannot_be_meant(pattern: str, words: str, hint: str) -> None:
    with pytest.raises(PatternError) as raised:
        parse(pattern, Axis.USER)
    assert words in str(raised.value)
    assert hint in raised.value.suggestion


def test_an_exclude_wins_wherever_it_stands() -> None:
    for patterns in (["team/**", "!team/sandbox/**"], ["!team/sandbox/**", "team/**"]):
        assert takes(patterns, "team/app", Axis.REPOSITORY)
        assert not takes(patterns, "team/sandbox/app", Axis.REPOSITORY)


def test_a_list_of_excludes_means_everything_else() -> None:
    patterns = ["!latest", "!re:dev-.*", "!semver:<1.0.0"]
    assert takes(patterns, "1.4.0", Axis.TAG)
    assert not any(takes(patterns, tag, Axis.TAG) for tag in ("latest", "dev-1", "0.9.0"))


def test_an_empty_list_means_everything() -> None:
    assert takes([], "anything", Axis.TAG)


def test_why_not_names_the_pattern() -> None:
    patterns = PatternList(tuple(parse(text, Axis.REPOSITORY) for text in ("team/**", "lab/*", "!team/x")))
    assert patterns.why_not("team/x") == 'is excluded by "!team/x"'
    assert patterns.why_not("other") == 'matches none of "team/**", "lab/*"'
    assert patterns.why_not("team/a") is None


@pytest.mark.parametrize(
    ("pattern", "axis", "words"),
    [
        ("", Axis.TAG, "empty"),
        ("!", Axis.TAG, "empty"),
        ("re:", Axis.TAG, "empty"),
        ("re:(", Axis.TAG, "not valid"),
        ("re:(?=a)b", Axis.TAG, "look-around"),
        (r"re:(a)\1", Axis.TAG, "back-references"),
        ("re:*.x", Axis.TAG, 'leave out "re:"'),
        ("re:((x{100}){100}){10}", Axis.TAG, "repetition"),
        ("re:" + "(.{1000})" * 8, Axis.TAG, "too large"),
        ("semver:latest", Axis.TAG, "no version range"),
        ("semver:>=1.0", Axis.REPOSITORY, 'under "tags:"'),
        (">=1.0", Axis.TAG, 'write "semver:>=1.0"'),
        ("^1.2", Axis.TAG, 'write "semver:^1.2"'),
        ("regex:v1", Axis.TAG, 'did you mean "re:"?'),
        ("server:1", Axis.TAG, 'did you mean "semver:"?'),
        ("Team/App", Axis.REPOSITORY, 'write "team/app"'),
        ("Team/*", Axis.REPOSITORY, 'write "team/*"'),
        ("team/app:1.4", Axis.REPOSITORY, 'under "tags:"'),
        ("team//app", Axis.REPOSITORY, "no valid repository"),
        ("/team/*", Axis.REPOSITORY, 'write "team/*"'),
        ("team/app", Axis.TAG, 'under "repositories:"'),
        ("-v1", Axis.TAG, "no valid tag"),
        ("a, b", Axis.TAG, "written as a list"),
        ("a b", Axis.TAG, "written as a list"),
        (r"v\d+", Axis.TAG, r"write 're:v\d+'"),
        ("v(1|2)", Axis.TAG, "write 're:v(1|2)'"),
        ("grün-*", Axis.TAG, "ASCII"),
        ("{a,b", Axis.TAG, "not closed"),
        ("a}*", Axis.TAG, 'no tag contains "}"'),
        ("a,b*", Axis.TAG, "written as a list"),
        ("[*", Axis.TAG, 'no tag contains "["'),
        ("[z-a]*", Axis.TAG, "no valid set"),
        ("x" * (MAX_LENGTH + 1), Axis.TAG, "limit is 1000"),
    ],
)
def test_a_pattern_that_can_never_match_is_an_error(pattern: str, axis: Axis, words: str) -> None:
    with pytest.raises(PatternError) as raised:
        parse(pattern, axis)
    assert words in f"{raised.value}; {raised.value.suggestion}"


@pytest.mark.parametrize("bomb", ["re:(a+)+$", "re:(a|a)*b", "re:(.*)*x", "re:(a?){50}a{50}", "**a**a**a**a**b"])
def test_no_pattern_slows_a_match_down(bomb: str) -> None:
    pattern = parse(bomb, Axis.REPOSITORY)
    patterns = PatternList((pattern,))
    patterns.matches("warm")
    began = time.perf_counter()
    for _ in range(50):
        patterns.matches("a" * 250 + "!")
    assert time.perf_counter() - began < 0.25


components = st.text("ab", min_size=1, max_size=3)
repositories = st.lists(components, min_size=1, max_size=4).map("/".join)


@settings(deadline=None, max_examples=25)
@given(repositories)
def test_every_name_matches_itself_and_the_widest_glob(name: str) -> None:
    assert takes([name], name, Axis.REPOSITORY)
    assert takes(["**"], name, Axis.REPOSITORY)
    assert takes(["*"], name, Axis.REPOSITORY) is ("/" not in name)


@settings(deadline=None, max_examples=30)
@given(repositories, repositories)
def test_globs_below_a_folder_are_prefixes(folder: str, name: str) -> None:
    below = name.startswith(f"{folder}/")
    assert takes([f"{folder}/**"], name, Axis.REPOSITORY) is below
    direct = below and "/" not in name.removeprefix(f"{folder}/")
    assert takes([f"{folder}/*"], name, Axis.REPOSITORY) is direct


@settings(deadline=None, max_examples=30)
@given(repositories, st.lists(repositories, max_size=3), st.lists(repositories, max_size=3))
def test_a_list_is_any_include_and_no_exclude(name: str, includes: list[str], excludes: list[str]) -> None:
    expected = (not includes or name in includes) and name not in excludes
    assert takes([*includes, *(f"!{text}" for text in excludes)], name, Axis.REPOSITORY) is expected


@settings(deadline=None, max_examples=30)
@given(st.text("ab*?/[]{},!.:()\\^$+-0", max_size=12))
def test_any_text_is_a_pattern_or_an_error(text: str) -> None:
    for axis in Axis:
        try:
            pattern = parse(text, axis)
        except PatternError:
            continue
        PatternList((pattern,)).matches("a")
