from __future__ import annotations

import pytest

from immuproxy.ledger.model import Action, ActorSource, Outcome
from immuproxy.web import wording
from tests.web.events import digest


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_a_tone_and_a_shape(outcome: Outcome) -> None:
    assert outcome in wording.TONES
    assert outcome in wording.SHAPES


def test_every_action_and_every_source_of_an_actor_has_words() -> None:
    assert set(wording.ACTIONS) == set(Action)
    assert set(wording.SOURCES) == set(ActorSource)


def test_digests_are_short_and_other_algorithms_are_named() -> None:
    assert wording.short_digest("sha256:" + "ab" * 32) == "abababababab"
    assert wording.short_digest("sha512:" + "cd" * 64) == "sha512:cdcdcdcdcdcd"
    assert wording.short_digest("nonsense") == "nonsense"
    assert len(wording.short_digest(digest("x"))) == wording.SHORT_DIGEST


@pytest.mark.parametrize(
    ("passed", "words"),
    [
        (-5, "just now"),
        (999, "just now"),
        (40_000, "40 s ago"),
        (90_000, "1 min ago"),
        (3 * 3_600_000, "3 h ago"),
        (47 * 3_600_000, "47 h ago"),
        (12 * 86_400_000, "12 d ago"),
    ],
)
def test_ages_have_one_unit(passed: int, words: str) -> None:
    assert wording.ago(1_000_000_000_000 - passed, 1_000_000_000_000) == words


def test_times_are_exact_in_utc() -> None:
    assert wording.iso(1_795_460_000_123) == "2026-11-23T18:53:20.123Z"
    assert wording.exact(1_795_460_000_123) == "2026-11-23 18:53:20.123 UTC"
    assert wording.iso_seconds(1_795_460_000_999) == "2026-11-23T18:53:20Z"


@pytest.mark.parametrize("broken", [-1, 10**18])
def test_an_impossible_time_is_still_shown(broken: int) -> None:
    assert wording.moment(broken).endswith("UTC")


def test_sizes_and_durations() -> None:
    assert wording.size(None) == ""
    assert wording.size(1536) == "1.5 KiB"
    assert wording.duration(None) == ""
    assert wording.duration(250) == "250 ms"
    assert wording.duration(12_345) == "12.3 s"
