"""Charts, rankings, repositories and tags are what counting all events one by one gives, in any order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from immuproxy.audit import schema, views
from immuproxy.audit.values import TagFacts
from immuproxy.ledger.model import Action, Event, Outcome
from tests.audit.made_up import made_up_events
from tests.audit.odd_events import written
from tests.audit.searching import World, world

SETTING = {Outcome.CREATED, Outcome.OVERWRITTEN, Outcome.UNCHANGED, Outcome.ADOPTED}


@pytest.fixture(params=["built", "pruned and followed"])
def made(request: pytest.FixtureRequest) -> World:
    made = world(seed=11, count=600)
    if request.param != "built":
        for count in (3, 50, 1, 120):
            made.arrive(40)
            made.prune(count)
    return made


def attempt(event: Event) -> str:
    return f"{'delete' if event.action.startswith('delete-') else event.action} {event.outcome}"


def within(made: World, since: int, until: int) -> list[Event]:
    """An event counts at its place."""
    return [event for place, event in made.events if since <= schema.ms_of(place) < until]


def spans(made: World) -> Iterable[tuple[int, int]]:
    ends = [schema.ms_of(place) for place, _ in made.events]
    yield ends[0], ends[-1] + 1
    yield 0, ends[-1] + 40 * 86_400_000
    for _ in range(12):
        since, until = sorted(made.chance.choices(ends, k=2))
        yield since, until + 1


def spread(made: World) -> World:
    """The same events over weeks, so that every unit of the counters takes part."""
    wide = world(seed=12, count=0)
    factor = 4_000
    start = schema.ms_of(made.events[0][0])
    wide.events = [
        (schema.place_of(start + (schema.ms_of(place) - start) * factor, place & 0xFFFF), event)
        for place, event in made.events
    ]
    wide.writer.take([(place, written(event)) for place, event in wide.events])
    wide.writer.commit()
    return wide


@pytest.mark.parametrize("wide", [False, True])
def test_charts_count_events_at_their_places(made: World, *, wide: bool) -> None:
    made = spread(made) if wide else made
    for since, until in spans(made):
        for buckets in (1, 7):
            if until - since < buckets:
                continue
            for name, value in (("attempt", attempt), ("outcome", lambda e: e.outcome), ("action", lambda e: e.action)):
                found = views.chart(made.connection, name, since, until, buckets)
                for number, (low, high) in enumerate(zip(found.edges, found.edges[1:], strict=False)):
                    wanted = Counter(str(value(event)) for event in within(made, low, high))
                    assert {each.value: each.counts[number] for each in found.series if each.counts[number]} == wanted
    assert views.total(made.connection) == len(made.events)


@pytest.mark.parametrize("wide", [False, True])
def test_rankings_name_the_values_with_most_events(made: World, *, wide: bool) -> None:
    made = spread(made) if wide else made
    ranked: dict[tuple[str, str | None], Callable[[Event], str]] = {
        ("repo", None): lambda e: e.repository,
        ("rule", None): lambda e: e.rule,
        ("repo", "refused"): lambda e: e.repository,
        ("tag", "refused"): lambda e: f"{e.repository}:{e.tag}" if e.tag and e.repository else "",
        ("actor", "failed"): lambda e: e.actor,
        ("rule", "failed"): lambda e: e.rule,
    }
    for since, until in spans(made):
        events = within(made, since, until)
        assert views.shadowed(made.connection, since, until) == sum(event.shadow for event in events)
        for (field, outcome), value in ranked.items():
            counted = Counter(value(event) for event in events if outcome in {None, event.outcome})
            wanted = sorted(((-n, text) for text, n in counted.items() if text))[:5]
            found = views.top(made.connection, field, since=since, until=until, outcome=outcome, limit=5)
            assert [(-tally.count, tally.value) for tally in found] == wanted


def test_what_has_no_name_takes_nobodys_place_in_a_ranking() -> None:
    made = world(seed=13, count=0)
    like = replace(next(made_up_events(1)), outcome=Outcome.REFUSED)
    nameless = [replace(like, id=f"n{n}", repository=f"team/{n % 8}", tag="") for n in range(24)]
    named = [replace(like, id=f"t{n}", repository="team/app", tag=f"v{n}") for n in range(3)]
    places = [(schema.place_of(like.time + n, 0), written(event)) for n, event in enumerate(nameless + named)]
    made.writer.take(places)
    made.writer.commit()
    found = views.top(
        made.connection, "tag", since=like.time, until=like.time + 1_000, outcome=Outcome.REFUSED, limit=3
    )
    assert [(tally.value, tally.count) for tally in found] == [(f"team/app:v{n}", 1) for n in range(3)]


def test_repositories_are_listed_with_all_that_happened_to_them(made: World) -> None:
    wanted = {}
    for name in {event.repository for _, event in made.events if event.repository}:
        events = [(place, event) for place, event in made.events if event.repository == name]
        if any(event.action is not Action.EXCEPTION for _, event in events):
            refused = sum(event.outcome is Outcome.REFUSED for _, event in events)
            wanted[name] = (len(events), refused, schema.ms_of(max(place for place, _ in events)))
    found, matching = views.repositories(made.connection, "", "activity", 100, None)
    assert {each.repository: (each.events, each.refusals, each.last) for each in found} == wanted
    assert matching == len(wanted)
    for each in found:
        assert each.tags == len(facts_of(made, each.repository))
    assert listed(made, "team/*") == ["team/app", "team/web"]
    assert listed(made, "STRASSE") == ["Straße/x"]


def listed(made: World, pattern: str) -> list[str]:
    return [each.repository for each in views.repositories(made.connection, pattern, "name", 100, None)[0]]


@pytest.mark.parametrize("order", views.ORDERS)
def test_pages_of_repositories_have_each_once_in_their_order(made: World, order: str) -> None:
    every, matching = views.repositories(made.connection, "", order, 100, None)
    ranks = [(-views.weight(order, each), each.repository) for each in every]
    assert len(every) == matching == len(set(ranks))
    assert ranks == sorted(ranks)
    behind = None
    for wanted, rank in zip(every, ranks, strict=True):
        assert views.repositories(made.connection, "", order, 1, behind) == ([wanted], matching)
        behind = rank
    assert views.repositories(made.connection, "", order, 1, behind) == ([], matching)


def facts_of(made: World, repository: str) -> dict[str, TagFacts]:
    """By the definition: the first event of the newest run with one digest, in the order of the events' own times."""
    found: dict[str, TagFacts] = {}
    for tag in {event.tag for _, event in made.events if event.repository == repository and event.tag}:
        events = [
            (event.time << 16 | place & 0xFFFF, place, event)
            for place, event in made.events
            if (event.repository, event.tag) == (repository, tag) and event.action is not Action.EXCEPTION
        ]
        if not events:
            continue
        run: list[tuple[int, str, bool, str]] = []
        for moment, _, event in sorted(events, key=lambda each: each[0]):
            gone = (event.action, event.outcome) == (Action.DELETE_TAG, Outcome.DELETED)
            if not gone and not (event.outcome in SETTING and event.digest):
                continue
            digest = "" if gone else event.digest
            if run and (run[-1][1], run[-1][2]) != (digest, gone):
                run = []
            run.append((moment, digest, gone, event.actor))
        last = schema.ms_of(max(place for _, place, _ in events))
        if run:
            moment, digest, gone, actor = run[0]
            found[tag] = TagFacts(tag, last, 0, moment >> 16, digest, actor, gone)
        else:
            found[tag] = TagFacts(tag, last)
    return found


def test_a_tag_was_set_by_the_first_of_the_newest_run_of_one_digest(made: World) -> None:
    for name in {event.repository for _, event in made.events}:
        facts = views.tags(made.connection, name, most=1_000)
        assert {each.tag: each for each in facts} == facts_of(made, name)
        assert [each.last for each in facts] == sorted((each.last for each in facts), reverse=True)
        for each in facts[:5]:
            assert views.tags(made.connection, name, most=1, tag=each.tag) == [each]
    assert views.tags(made.connection, "nowhere", most=5) == []


def test_known_values_begin_with_what_was_typed_or_contain_it(made: World) -> None:
    found = views.known_values(made.connection, "actor", "CI", 10)
    assert {tally.value for tally in found} == {"ci", "CI", "ci-1", "ci-*"}
    for tally in found:
        assert tally.count == sum(event.actor == tally.value for _, event in made.events)
    assert [tally.value for tally in views.known_values(made.connection, "repo", "web", 10)][-1:] != ["team/app"]
    tags = views.known_values(made.connection, "tag", "V1", 10)
    assert {tally.value for tally in tags} <= {"v1", "v1.2", "V1.2", "v10"}
    assert tags
    for tally in tags:
        assert tally.last == max(schema.ms_of(place) for place, event in made.events if event.tag == tally.value)
    with pytest.raises(ValueError, match="no known values"):
        views.known_values(made.connection, "size", "", 10)
