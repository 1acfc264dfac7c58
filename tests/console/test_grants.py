from __future__ import annotations

import pytest

from immuproxy.allow.exceptions import Exemption
from immuproxy.console.exceptions.grants import Granted, Used, end_of, form_context, history_dict, standing_dict, uses
from immuproxy.ledger.model import Action, Event, Outcome, TagRecord
from tests.console.events import NOW, in_force, push


def told(outcome: Outcome, time: int, **fields: str) -> Event:
    return push(outcome, action=Action.EXCEPTION, time=NOW + time, **({"reason": "leaked"} | fields))


GRANT = told(Outcome.GRANTED, 0, id="g1", actor="anna")


def test_only_the_proxys_own_words_make_a_push_a_use() -> None:
    used = push(Outcome.OVERWRITTEN, reason="a temporary exception allows it: event g1, granted by anna: leaked")
    forged = push(Outcome.OVERWRITTEN, reason="the rule allows it", user_agent="event g1, granted by anna")
    other = push(Outcome.OVERWRITTEN, reason="a temporary exception allows it: event g12, granted by anna: leaked")
    assert uses([used, forged, other], "g1", more=False).pushes == (used,)


@pytest.mark.parametrize(
    ("later", "state", "by"),
    [
        ([], "ended", ""),
        ([told(Outcome.ENDED, 5, actor="mira")], "ended", "mira"),
        ([told(Outcome.ENDED, 5, actor="")], "over", ""),
        ([told(Outcome.GRANTED, 5, actor="mira")], "replaced", "mira"),
        ([told(Outcome.GRANTED, 9, actor="x"), told(Outcome.ENDED, 5, actor="mira"), GRANT], "ended", "mira"),
    ],
)
def test_what_became_of_a_grant(later: list[Event], state: str, by: str) -> None:
    ended = end_of(GRANT, later)
    row = history_dict(Granted(GRANT, standing=False, ended=ended, used=Used()))
    assert (row["state"], row["ended_by"]) == (state, by)
    assert row["ended"] == (NOW + 5 if later else None)


def test_one_in_force_has_not_ended() -> None:
    row = history_dict(Granted(GRANT, standing=True, ended=None, used=Used()))
    assert (row["state"], row["ended"], row["ended_event"]) == ("in force", None, None)


def test_one_for_a_tag_that_may_move_anyway_says_so() -> None:
    rules = in_force().rules
    needed = Exemption("team/app", "1.0", 1, 2, "", "g", "anna", "why")
    needless = Exemption("team/app", "latest", 1, 2, "", "g", "anna", "why")
    nobody = TagRecord("team/app", "1.0")
    assert standing_dict(needed, Used(), rules, nobody)["needless"] == ""
    assert "does not hold team/app:latest" in standing_dict(needless, Used(), rules, nobody)["needless"]


def test_a_grant_to_delete_is_told_as_such() -> None:
    deleting = told(Outcome.GRANTED, 0, id="g2", reason="may be deleted: leaked")
    rows = [history_dict(Granted(event, standing=True, ended=None, used=Used())) for event in (GRANT, deleting)]
    assert [(row["allows"], row["reason"]) for row in rows] == [("overwrite", "leaked"), ("delete", "leaked")]


def test_the_form_keeps_what_was_typed() -> None:
    context = form_context({"tag": "x", "other": "y"}, {"tag": "no"})
    assert context["form"] == {"tag": "x", "for": "", "reason": "", "digest": "", "allows": ""}
    assert context["errors"] == {"tag": "no"}
