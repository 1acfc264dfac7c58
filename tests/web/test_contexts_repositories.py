from __future__ import annotations

from immuproxy.ledger.model import Committed, Outcome, TagRecord
from immuproxy.web.contexts.repositories import TagRow, rows, tag_row
from tests.web.events import NOW, digest, in_force, push

RULES = in_force().rules


def test_a_held_tag_shows_its_record() -> None:
    held = Committed(digest("one"), 2, since=NOW, first=NOW - 9, by="bot")
    refused = push(Outcome.REFUSED, digest=digest("evil"))
    row = tag_row(TagRow(TagRecord("team/app", "1.0", committed=held, generation=2), refused), RULES)
    assert (row["state"], row["digest"], row["by"], row["policy"]) == ("held", digest("one"), "bot", "immutable")


def test_a_moving_tag_shows_its_last_push() -> None:
    last = push(Outcome.OVERWRITTEN, tag="latest", digest=digest("new"), time=NOW)
    row = tag_row(TagRow(TagRecord("team/app", "latest"), last), RULES)
    assert (row["state"], row["digest"], row["since"], row["rule"]) == ("moves", digest("new"), NOW, "moving")


def test_a_refused_push_of_a_free_tag_sets_nothing() -> None:
    row = tag_row(TagRow(TagRecord("team/app", "9.9"), push(Outcome.FAILED, tag="9.9")), RULES)
    assert (row["state"], row["digest"], row["since"]) == ("free", "", None)


def test_records_without_an_event_are_rows_too() -> None:
    found = rows([TagRecord("team/app", "1.0"), TagRecord("team/app", "2.0")], {"2.0": push(tag="2.0")})
    assert [row.last is not None for row in found] == [False, True]
