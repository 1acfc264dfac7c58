from __future__ import annotations

from immuproxy.audit.values import TagFacts
from immuproxy.console.repositories.summaries import tag_row
from immuproxy.ledger.model import Claim, Committed, State, TagRecord, Tombstone
from tests.console.events import NOW, digest, in_force

RULES = in_force().rules


def test_a_held_tag_shows_its_record() -> None:
    held = Committed(digest("one"), 2, since=NOW, first=NOW - 9, by="bot")
    facts = TagFacts("1.0", NOW + 5, NOW, NOW, digest("stale"), "somebody else")
    row = tag_row(facts, TagRecord("team/app", "1.0", committed=held, generation=2), RULES)
    assert (row["state"], row["digest"], row["by"], row["policy"]) == ("held", digest("one"), "bot", "immutable")


def test_a_moving_tag_shows_its_last_push() -> None:
    facts = TagFacts("latest", NOW + 5, 0, NOW, digest("new"), "ci")
    row = tag_row(facts, TagRecord("team/app", "latest"), RULES)
    assert (row["state"], row["digest"], row["since"], row["rule"]) == ("moves", digest("new"), NOW, "moving")
    assert (row["by"], row["last"]) == ("ci", NOW + 5)


def test_a_refused_push_of_a_free_tag_sets_nothing() -> None:
    row = tag_row(TagFacts("9.9", NOW), TagRecord("team/app", "9.9"), RULES)
    assert (row["state"], row["digest"], row["since"], row["by"]) == ("free", "", None, "")


def test_a_deleted_tag_shows_nothing_of_what_it_was() -> None:
    for record in (
        TagRecord("team/app", "1.0"),
        TagRecord("team/app", "1.0", tombstone=Tombstone(NOW, digest("one"))),
    ):
        row = tag_row(TagFacts("1.0", NOW, 0, NOW, "", "ci", gone=True), record, RULES)
        assert (row["state"], row["digest"], row["since"]) == ("deleted", "", None)


def test_a_tag_that_is_being_pushed_shows_that() -> None:
    claim = Claim(State.ARMED, digest("two"), "token", NOW + 1000)
    row = tag_row(TagFacts("latest", NOW, 0, NOW, digest("old")), TagRecord("team/app", "latest", claim=claim), RULES)
    assert (row["state"], row["digest"]) == ("being pushed", "")
