"""What proves that an interrupted push arrived, and what only looks like it (H114)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from immuproxy.edge.proof import Case, Sight, arrived, given_up
from immuproxy.ledger.model import Action, Event, Outcome

START, QUARANTINE = 1_700_000_000_000, 300_000
_numbers = iter(range(1, 10**6))


def event(digest: str, previous: str = "", *, began: int, told: int, **fields: object) -> Event:
    """A push that its own proxy tells, from and to these seconds; `by_others` leaves only when its intent was."""
    number = next(_numbers)
    usual = {"action": Action.PUSH, "outcome": Outcome.OVERWRITTEN, "repository": "team/app", "tag": "latest"}
    return Event(
        id=f"{START + 1000 * began:012x}{number:010x}",
        **(usual | fields),  # type: ignore[arg-type]
        time=START + 1000 * told,
        digest=digest,
        previous_digest=previous,
        duration_ms=1000 * (told - began),
    )


def by_others(told: Event) -> Event:
    return replace(told, duration_ms=None)


OURS = by_others(event("ours", "old", began=100, told=101, outcome=Outcome.FAILED))
OVER = event("new", "ours", began=110, told=111)


def case(*recorded: Event, others: Sequence[Event] = (), intent: Event = OURS, whole: bool = True) -> Case:
    return Case(intent=intent, recorded=recorded, others=[intent, *others], whole=whole, quarantine=QUARANTINE)


PROVED = {
    "an overwrite names it": case(OVER),
    "an overwrite that is not told yet names it": case(others=[by_others(OVER)]),
    "the same pushed again found it": case(event("ours", "ours", began=110, told=111, outcome=Outcome.UNCHANGED)),
    "it was adopted": case(event("ours", began=110, told=110, action=Action.ADOPT, outcome=Outcome.ADOPTED)),
    "the same was pushed long before": case(event("ours", began=1, told=2), OVER),
    "the same was pushed after that": case(OVER, event("ours", "new", began=120, told=121)),
    "the same was refused": case(event("ours", began=102, told=103, outcome=Outcome.REFUSED), OVER),
    "the same was pushed to another tag": case(event("ours", began=102, told=103, tag="main"), OVER),
}

NOT_PROVED = {
    "nothing is recorded": case(),
    "it is not all that is recorded": case(OVER, whole=False),
    "somebody else pushed the same between": case(event("ours", "old", began=102, told=103), OVER),
    "somebody else's push of the same ended later": case(event("ours", "old", began=102, told=130), OVER),
    "somebody else's push of the same is still open": case(OVER, others=[event("ours", "old", began=90, told=91)]),
    "one of the same that others told could land late": case(by_others(event("ours", began=50, told=51)), OVER),
    "one of the same is unknown as well": case(
        by_others(event("ours", began=102, told=103, outcome=Outcome.UNKNOWN)), OVER
    ),
    "the overwrite had looked before": case(replace(OVER, id=event("", began=99, told=99).id)),
    "the overwrite had looked before, by its duration": case(replace(OVER, duration_ms=20_000)),
    "another tag held it": case(replace(OVER, tag="main")),
    "the tag held it before": case(OVER, intent=replace(OURS, previous_digest="ours")),
}


@pytest.mark.parametrize("what", PROVED)
def test_h114_an_arrival_is_proved_where(what: str) -> None:
    found = arrived(PROVED[what], "")
    assert found is not None
    assert (found.id, found.time, found.outcome) == (OURS.id, OURS.time, Outcome.OVERWRITTEN)


@pytest.mark.parametrize("what", NOT_PROVED)
def test_h114_an_arrival_is_not_proved_where(what: str) -> None:
    assert arrived(NOT_PROVED[what], "") is None


RIVAL = event("ours", "old", began=102, told=103)


def test_h114_what_the_tag_shows_is_proof_where_nobody_else_pushed_it() -> None:
    assert arrived(case(), "ours")
    assert arrived(case(RIVAL), "ours") is None
    assert arrived(case(), "old") is None
    assert arrived(case(whole=False), "ours") is None


def test_h114_a_tag_that_held_it_before_and_was_never_moved_is_unchanged() -> None:
    again = replace(OURS, previous_digest="ours")
    found = arrived(case(intent=again), "ours")
    assert found is not None
    assert found.outcome is Outcome.UNCHANGED
    assert arrived(case(OVER, intent=again), "ours") is None
    assert arrived(case(intent=again, others=[event("new", began=99, told=102)]), "ours") is None


def test_h114_by_its_digest_the_content_may_have_been_there_for_ever() -> None:
    untagged = replace(OURS, tag="", previous_digest="")
    assert arrived(case(intent=untagged), "ours")
    assert arrived(case(event("ours", began=1, told=2, tag="main"), intent=untagged), "ours") is None


def test_h114_what_the_registry_does_not_have_never_arrived_unless_it_was_deleted() -> None:
    nothing = Sight(at=START, digest="", stored=False)
    assert given_up(case(), nothing).outcome is Outcome.FAILED
    deleted = event("ours", began=103, told=104, tag="", action=Action.DELETE_MANIFEST, outcome=Outcome.DELETED)
    assert given_up(case(deleted), nothing).outcome is Outcome.UNKNOWN
    assert given_up(case(others=[deleted]), nothing).outcome is Outcome.UNKNOWN
    assert given_up(case(replace(deleted, outcome=Outcome.REFUSED)), nothing).outcome is Outcome.FAILED
    long_before = event("ours", began=3, told=4, action=Action.DELETE_MANIFEST, outcome=Outcome.DELETED)
    assert given_up(case(long_before), nothing).outcome is Outcome.FAILED


def test_h114_what_nobody_can_tell_says_what_was_seen_and_when() -> None:
    seen = given_up(case(RIVAL), Sight(at=START, digest="ours", stored=True))
    assert (seen.outcome, seen.time) == (Outcome.UNKNOWN, OURS.time)
    assert "2023-11-14T22:13:20Z the tag held ours, which others pushed as well" in seen.reason
    other = given_up(case(), Sight(at=START, digest="new", stored=True))
    assert "the tag held new, and nothing proves whether it held ours before" in other.reason
