"""Charts, rankings, repositories and tags are what counting all events one by one gives, in any order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from immuproxy.audit import schema, views
from immuproxy.audit.values import TagFacts
from immuproxy.ledger.model import Action, Event, Outcome
from tests.audit import odd_events
from tests.audit.made_up import digest_of, made_up_events
from tests.audit.searching import World, world

SETTING = {Outcome.CREATED, Outcome.OVERWRITTEN, Outcome.ADOPTED}


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
    wide.writer.take([(place, odd_events.written(event)) for place, event in wide.events])
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
    places = [
        (schema.place_of(like.time + n, 0), odd_events.written(event)) for n, event in enumerate(nameless + named)
    ]
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
    """By the definition: the newest event that set or deleted it, or that confirmed another digest since."""
    found: dict[str, TagFacts] = {}
    for tag in {event.tag for _, event in made.events if event.repository == repository and event.tag}:
        events = [
            (event.time, place, event)
            for place, event in made.events
            if (event.repository, event.tag) == (repository, tag) and event.action is not Action.EXCEPTION
        ]
        if not events:
            continue
        set_by: Event | None = None
        confirmed: Event | None = None
        for _, _, event in sorted(events, key=lambda each: each[:2]):
            if is_gone(event) or (event.outcome in SETTING and event.digest):
                set_by, confirmed = event, None
            elif event.outcome is Outcome.UNCHANGED and event.digest:
                confirmed = event
        if confirmed and set_by and not is_gone(set_by) and confirmed.digest == set_by.digest:
            confirmed = None
        last, told = schema.ms_of(max(place for _, place, _ in events)), confirmed or set_by
        found[tag] = TagFacts(tag, last)
        if told:
            gone = is_gone(told)
            found[tag] = TagFacts(tag, last, 0, told.time, "" if gone else told.digest, told.actor, gone)
    return found


def is_gone(event: Event) -> bool:
    return (event.action, event.outcome) == (Action.DELETE_TAG, Outcome.DELETED)


def test_a_tag_was_set_by_the_newest_event_that_tells_so(made: World) -> None:
    for name in {event.repository for _, event in made.events}:
        facts = views.tags(made.connection, name, most=1_000)
        assert {each.tag: each for each in facts} == facts_of(made, name)
        assert [each.last for each in facts] == sorted((each.last for each in facts), reverse=True)
        for each in facts[:5]:
            assert views.tags(made.connection, name, most=1, tag=each.tag) == [each]
            newer = [other for other in facts if other.last >= each.last]
            assert views.tags(made.connection, name, most=1_000, since=each.last) == newer
    assert views.tags(made.connection, "nowhere", most=5) == []


def push(minute: int, outcome: Outcome, content: int, actor: str, *, told: int | None = None) -> tuple[int, Event]:
    """A push of ``team/app:latest``, with its place; ``told``: the minute in which it was recorded, if later."""
    time = odd_events.START + minute * 60_000
    place = schema.place_of(odd_events.START + (minute if told is None else told) * 60_000, 0)
    event = Event(id=f"{place:022x}", action=Action.PUSH, outcome=outcome, time=time, repository="team/app")
    return place, replace(event, tag="latest", digest=digest_of(content), actor=actor)


def taken(*events: tuple[int, Event]) -> World:
    made = world(seed=1, count=0)
    made.events = list(events)
    made.writer.take([(place, odd_events.written(event)) for place, event in events])
    made.writer.commit()
    return made


def last_set(made: World) -> tuple[int, str, str]:
    """The minute, the digest and by whom."""
    (facts,) = views.tags(made.connection, "team/app", most=1, tag="latest")
    return (facts.changed - odd_events.START) // 60_000, facts.digest, facts.by


def test_a_push_of_what_a_tag_holds_does_not_set_it_but_one_of_another_digest_tells_what_it_holds_by_now() -> None:
    """A retried push whose first answer was lost ends as unchanged."""
    created = push(1, Outcome.CREATED, 1, "ann")
    again, lost = push(2, Outcome.UNCHANGED, 1, "ben"), push(3, Outcome.UNKNOWN, 2, "cid")
    retried = push(4, Outcome.UNCHANGED, 2, "cid")
    assert last_set(taken(created, again, lost)) == (1, digest_of(1), "ann")
    assert last_set(taken(created, again, lost, retried)) == (4, digest_of(2), "cid")
    made = taken(created, again)
    made.prune(1)
    assert last_set(made) == (2, digest_of(1), "ben"), "all that is still recorded"


def test_h115_what_was_told_late_is_what_remains_of_a_tag_where_its_newer_event_was_pruned() -> None:
    newer, late = push(2, Outcome.OVERWRITTEN, 2, "ben"), push(1, Outcome.CREATED, 1, "ann", told=3)
    made = taken(newer, late)
    assert last_set(made) == (2, digest_of(2), "ben")
    made.prune(1)
    assert last_set(made) == (1, digest_of(1), "ann")
    assert last_set(made) == last_set(taken(late)), "as an index has it that is built now"


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
