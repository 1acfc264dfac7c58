from __future__ import annotations

import pytest

from immuproxy.ledger.model import Action, Claim, Committed, Event, Outcome, State, TagRecord, Tombstone
from immuproxy.web.contexts.tag import spans, standing, tag_context
from tests.web.events import NOW, digest, in_force, push

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


def test_a_held_tag_says_what_a_pull_gets_and_what_the_next_push_meets() -> None:
    context = tag_context(record(committed=HELD), RULES, history(), older="more", now=NOW)
    assert context["digest"] == digest("one")
    assert context["state"] == "held"
    assert context["refused_times"] == [NOW - 1000]
    assert context["next_cursor"] == "more"
    assert context["policy"]["sentence"] == "immutable by rule releases (line 6)"
    answers = {answer["request"]: answer["outcome"] for answer in context["policy"]["answers"]}
    assert answers["push of another digest"] == "depends"
    assert "first push" not in answers


def test_a_moving_tag_is_what_was_pushed_last() -> None:
    events = [push(Outcome.OVERWRITTEN, tag="latest", time=NOW - 10, digest=digest("new"), rule="moving")]
    context = tag_context(record("latest"), RULES, events, older="", now=NOW)
    assert context["digest"] == digest("new")
    assert "may move" in context["why"]
    assert context["next_cursor"] is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (record(tombstone=Tombstone(NOW, digest("one"))), "was deleted"),
        (record(claim=CLAIM), "under way"),
        (record(), "has not seen this tag"),
        (record("latest"), "may move"),
    ],
)
def test_where_no_digest_is_known_the_page_says_why(found: TagRecord, words: str) -> None:
    context = tag_context(found, RULES, [], older="", now=NOW)
    assert context["digest"] == ""
    assert words in context["why"]


def test_a_life_in_one_sentence() -> None:
    context = tag_context(record(committed=HELD), RULES, history(), older="", now=NOW)
    assert context["life_sentence"] == "The tag has held 2 digests; 1 attempt was refused."
