from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from immuproxy.audit.values import EventPage, TagFacts
from immuproxy.console.tags.life import Known, spans, standing, tag_context
from immuproxy.ledger.model import Action, Claim, Committed, Event, Outcome, State, TagRecord, Tombstone
from tests.console.events import NOW, digest, in_force, push

RULES = in_force().rules
HELD = Committed(digest("one"), 1, since=NOW - 5000, first=NOW - 5000, by="ci", first_by="ci", rule="releases")
CLAIM = Claim(State.ARMED, digest("two"), "token", NOW + 1000)


def record(tag: str = "1.0", **parts: object) -> TagRecord:
    return TagRecord("team/app", tag, generation=1, **parts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (record(), "free"),
        (record(committed=HELD), "held"),
        (record(committed=HELD, claim=CLAIM), "being overwritten"),
        (record(claim=CLAIM), "being pushed"),
        (record(tombstone=Tombstone(NOW, digest("one"))), "deleted"),
    ],
)
def test_a_record_has_one_word(found: TagRecord, word: str) -> None:
    assert standing(found).state == word


def history() -> list[Event]:
    """Newest first, as the audit gives it."""
    return [
        push(Outcome.REFUSED, time=NOW - 1000, digest=digest("evil"), previous_digest=digest("two")),
        push(Outcome.UNCHANGED, time=NOW - 2000, digest=digest("two")),
        push(Outcome.OVERWRITTEN, time=NOW - 3000, digest=digest("two"), previous_digest=digest("one")),
        push(Outcome.CREATED, time=NOW - 5000, digest=digest("one")),
    ]


def test_a_life_is_cut_into_the_digests_that_it_held() -> None:
    cut = [(span["digest"], span["since"], span["until"]) for span in spans(history(), NOW)]
    assert cut == [(digest("one"), NOW - 5000, NOW - 3000), (digest("two"), NOW - 3000, NOW)]


def test_a_delete_ends_a_stretch() -> None:
    gone = push(Outcome.DELETED, action=Action.DELETE_TAG, time=NOW - 500)
    assert spans([gone, *history()], NOW)[-1]["until"] == NOW - 500


def test_a_refused_delete_ends_nothing() -> None:
    kept = push(Outcome.REFUSED, action=Action.DELETE_TAG, time=NOW - 500)
    assert spans([kept, *history()], NOW)[-1]["until"] == NOW


def test_the_same_digest_adopted_again_is_one_stretch() -> None:
    again = push(Outcome.ADOPTED, action=Action.ADOPT, time=NOW - 100, digest=digest("two"))
    assert len(spans([again, *history()], NOW)) == 2


def page(events: Sequence[Event] = (), *, older: str = "") -> EventPage:
    return EventPage(tuple(events), older, complete=True)


def context(
    found: TagRecord,
    history: EventPage | None = None,
    facts: TagFacts | None = None,
    drawn: EventPage | None = None,
) -> dict[str, Any]:
    known = Known(found, facts or TagFacts(found.tag), RULES, NOW)
    return tag_context(known, history or page(), drawn)


def test_a_held_tag_says_what_a_pull_gets_and_what_the_next_push_meets() -> None:
    said = context(record(committed=HELD), page(history(), older="more"), drawn=page(history()))
    assert said["digest"] == digest("one")
    assert said["state"] == "held"
    assert said["life"]["refused_times"] == [NOW - 1000]
    assert said["next_cursor"] == "more"
    assert said["policy"]["sentence"] == "immutable by rule releases (line 6)"
    answers = {answer["request"]: answer["outcome"] for answer in said["policy"]["answers"]}
    assert answers["push of another digest"] == "depends"
    assert "first push" not in answers


def test_a_moving_tag_is_what_was_pushed_last() -> None:
    facts = TagFacts("latest", NOW, 0, NOW - 10, digest("new"), "ci")
    said = context(record("latest"), facts=facts)
    assert (said["digest"], said["since"], said["by"], said["state"]) == (digest("new"), NOW - 10, "ci", "moves")
    assert "may move" in said["why"]
    assert said["next_cursor"] is None


def test_what_moved_before_it_was_protected_is_held_from_the_next_pull_on() -> None:
    said = context(record(), facts=TagFacts("1.0", NOW, 0, NOW - 10, digest("new"), "ci"))
    assert said["digest"] == digest("new")
    assert "held from then on" in said["why"]


@pytest.mark.parametrize(
    ("found", "facts", "words"),
    [
        (record(tombstone=Tombstone(NOW, digest("one"))), None, "stays taken"),
        (record("latest"), TagFacts("latest", NOW, 0, NOW, gone=True), "is free again"),
        (record(claim=CLAIM), None, "under way"),
        (record(), None, "has not seen this tag"),
        (record("latest"), None, "may move"),
    ],
)
def test_where_no_digest_is_known_the_page_says_why(found: TagRecord, facts: TagFacts | None, words: str) -> None:
    said = context(found, facts=facts)
    assert (said["digest"], said["since"]) == ("", None)
    assert words in said["why"]


def test_a_life_in_one_sentence() -> None:
    said = context(record(committed=HELD), drawn=page(history()))
    assert said["life"]["life_sentence"] == "The tag has held 2 digests; 1 attempt was refused."
    assert said["life"]["drawn_all"]


def test_a_life_of_which_there_is_more_says_so() -> None:
    assert not context(record(committed=HELD), drawn=page(history(), older="more"))["life"]["drawn_all"]


def test_a_life_that_begins_before_all_that_there_is_room_for_says_so() -> None:
    """An index in memory has the newest events only, and no cursor for the others."""
    ends = EventPage(tuple(history()), "", complete=False)
    assert not context(record(committed=HELD), drawn=ends)["life"]["drawn_all"]


def test_a_page_of_older_events_draws_nothing() -> None:
    assert context(record(committed=HELD), page(history()))["life"] is None


def test_a_change_can_be_compared_with_what_was_before() -> None:
    told = {event["outcome"]: event["compare_with"] for event in context(record(), page(history()))["history"]}
    assert told == {"created": None, "overwritten": digest("one"), "unchanged": None, "refused": None}
