from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immuproxy.audit.rosters import Roster
from immuproxy.audit.values import TagFacts
from immuproxy.console.repositories.tag_list import (
    ORDERS,
    Chosen,
    Shelf,
    TagQuery,
    choose,
    fitting_rules,
    natural,
    state_of,
)
from immuproxy.values.cursors import BadCursorError
from tests.console.events import in_force

RULES = in_force().rules
ACTORS = ("", "ci", "mira", "release-bot")


def facts(number: int, tag: str) -> TagFacts:
    changed = 1000 + number % 50
    match number % 5:
        case 0:
            return TagFacts(tag, changed, 0, changed, "", "ci", gone=True)
        case 1:
            return TagFacts(tag, changed)
        case 2:
            return TagFacts(tag, changed, 0, changed, "sha256:a", ACTORS[number % 4])
        case _:
            return TagFacts(tag, changed, changed, changed, "sha256:b", ACTORS[number % 4])


def roster(tags: Sequence[str]) -> Roster:
    return Roster("team/app", {tag: facts(number, tag) for number, tag in enumerate(tags)}, version=1)


def chosen(found: Roster, wish: TagQuery, limit: int = 10, cursor: str = "", shelf: Shelf | None = None) -> Chosen:
    shelf = shelf or Shelf()
    shelf.begin(found.repository, RULES)
    shelf.learn(found.repository, found.tags.values(), RULES)
    return choose(found, shelf, wish, limit=limit, cursor=cursor)


def names(found: Chosen) -> list[str]:
    return [each.tag for each in found.facts]


def test_tags_sort_as_people_count() -> None:
    wanted = (
        "1", "1.2", "1.9.0", "1.10.0-rc.2", "1.10.0-rc.10", "1.10.0", "v1.10.1", "1.10.1.7", "2.0.0-alpine", "2.0.0",
        "20260101123000", "build-2", "build-10", "latest", "main",
    )  # fmt: skip
    shuffled = random.Random(3).sample(wanted, len(wanted))
    assert tuple(sorted(shuffled, key=natural)) == wanted


def test_a_long_number_is_no_trouble() -> None:
    assert natural("9" * 128) > natural("1")
    assert natural("v" + "9" * 100 + ".1")


@pytest.mark.parametrize(
    ("known", "state"),
    [
        (TagFacts("a", 1, 5, 5, "sha256:a"), "held"),
        (TagFacts("a", 1, 0, 5, "sha256:a"), "moves"),
        (TagFacts("a", 1, 0, 5, gone=True), "deleted"),
        (TagFacts("a", 1, 5, 5, gone=True), "held"),
        (TagFacts("a", 1), "free"),
    ],
)
def test_a_tag_has_one_state(known: TagFacts, state: str) -> None:
    assert state_of(known) == state


TAGS = [f"{number % 3}.{number}.0" for number in range(40)] + [f"dev-{number}" for number in range(37)] + ["latest"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_pages_follow_each_other_without_gap_or_repetition_and_lead_back(order: str, limit: int) -> None:
    found, wish, seen, cursor = roster(TAGS), TagQuery(order=order), list[str](), ""
    cursors = [""]
    while True:
        page = chosen(found, wish, limit, cursor)
        assert page.first == len(seen) + 1
        seen += names(page)
        if page.following is None:
            break
        cursor = page.following
        cursors.append(cursor)
    assert sorted(seen) == sorted(TAGS)
    for here, before in zip(cursors[1:], cursors, strict=False):
        assert chosen(found, wish, limit, here).previous == before
    assert chosen(found, wish, limit).previous is None


def test_the_other_way_round_is_the_mirror() -> None:
    for column in ("name", "state", "rule", "set", "by"):
        up, down = (chosen(roster(TAGS), TagQuery(order=order), 1000) for order in (column, f"-{column}"))
        assert names(up) == names(down)[::-1]


def test_each_column_sorts_by_what_it_shows() -> None:
    found = roster(TAGS)
    by_time = [found.tags[tag].changed for tag in names(chosen(found, TagQuery(order="-set"), 1000))]
    assert by_time == sorted(by_time, reverse=True)
    by_state = [state_of(found.tags[tag]) for tag in names(chosen(found, TagQuery(order="state"), 1000))]
    assert list(dict.fromkeys(by_state)) == ["held", "moves", "deleted", "free"]
    by_actor = [found.tags[tag].by for tag in names(chosen(found, TagQuery(order="by"), 1000))]
    assert by_actor == sorted(by_actor)
    by_rule = [RULES.match("team/app", tag).name for tag in names(chosen(found, TagQuery(order="rule"), 1000))]
    assert by_rule == sorted(by_rule)
    assert len(set(by_rule)) == 2


def test_a_text_is_found_anywhere_in_the_name_whatever_its_case() -> None:
    found = roster(["v1-Alpine", "alpine", "v1"])
    assert sorted(names(chosen(found, TagQuery("ALPINE")))) == ["alpine", "v1-Alpine"]


def test_a_pattern_is_for_the_whole_name() -> None:
    assert names(chosen(roster(["v1.0", "v2.0", "dev1.0"]), TagQuery("v*.0", order="name"))) == ["v1.0", "v2.0"]


def test_a_state_leaves_the_others_countable() -> None:
    found = chosen(roster(TAGS), TagQuery("dev", state="deleted"), 1000)
    assert {state_of(each) for each in found.facts} == {"deleted"}
    assert found.matching == len(found.facts) == found.states["deleted"]
    assert sum(found.states.values()) == 37


def test_a_rule_chooses_the_tags_that_it_decides_about() -> None:
    found = chosen(roster(TAGS), TagQuery(rule="moving"), 1000)
    assert set(names(found)) == {tag for tag in TAGS if tag == "latest" or tag.startswith("dev-")}


def test_other_rules_are_noticed() -> None:
    shelf, found = Shelf(), roster(TAGS)
    assert chosen(found, TagQuery(rule="moving"), shelf=shelf).matching == 38
    other = in_force("default: immutable\nrules: [{name: moving, tags: [latest], policy: mutable}]\n").rules
    shelf.begin(found.repository, other)
    shelf.learn(found.repository, found.tags.values(), other)
    assert choose(found, shelf, TagQuery(rule="moving", order="rule"), limit=10, cursor="").matching == 1


def test_the_rules_that_fit_the_repository_can_be_chosen() -> None:
    assert fitting_rules("team/app", RULES) == ("referrers", "moving", "releases", "default")
    assert fitting_rules("other", RULES) == ("referrers", "moving", "default")


def test_a_new_version_of_the_roster_is_put_in_order_again() -> None:
    shelf, found = Shelf(), roster(TAGS)
    chosen(found, TagQuery(), shelf=shelf)
    found.tags["new"] = TagFacts("new", 9999, 0, 9999, "sha256:c")
    found.version += 1
    assert names(chosen(found, TagQuery(), 1, shelf=shelf)) == ["new"]


def test_a_page_goes_on_where_its_last_tag_was_though_that_is_gone() -> None:
    found = roster(TAGS)
    first = chosen(found, TagQuery(order="name"), 10)
    smaller = roster([tag for tag in TAGS if tag != names(first)[-1]])
    assert first.following
    rest = chosen(smaller, TagQuery(order="name"), 1000, first.following)
    assert set(names(first)).isdisjoint(names(rest))
    assert len(names(rest)) == len(TAGS) - 10


@pytest.mark.parametrize("cursor", ["x", "WyJ0YWdzIiwxLCJhIl0", "WyJ0YWctbGlzdCIsIi1zZXQiLCJ4IiwiYSJd"])
def test_a_cursor_that_nobody_gave_out_is_refused(cursor: str) -> None:
    with pytest.raises(BadCursorError):
        chosen(roster(TAGS), TagQuery(), cursor=cursor)


def test_a_cursor_of_another_order_is_refused() -> None:
    following = chosen(roster(TAGS), TagQuery(order="name")).following
    assert following
    with pytest.raises(BadCursorError):
        chosen(roster(TAGS), TagQuery(order="by"), cursor=following)


def test_no_tag_is_a_page_too() -> None:
    found = chosen(roster([]), TagQuery())
    assert (found.facts, found.matching, found.first, found.following, found.previous) == ((), 0, 0, None, None)


@given(st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", fullmatch=True))
def test_any_tag_has_a_place(tag: str) -> None:
    assert natural(tag)
