from __future__ import annotations

import pytest

from immuproxy.console import wording
from immuproxy.ledger.model import Action, ActorSource, Outcome
from tests.console.events import digest


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
    ("octets", "words"), [(None, ""), (1, "1 byte"), (482, "482 bytes"), (1_023, "1023 bytes"), (1_681, "1.6 KiB")]
)
def test_sizes_are_in_plain_words(octets: int | None, words: str) -> None:
    assert wording.size(octets) == words


@pytest.mark.parametrize(
    ("time", "form", "words"),
    [(0, "time", "00:00"), (90_000_000, "weekday", "Fri 01:00"), (90_000_000, "day", "2 Jan")],
)
def test_times_below_a_chart_have_no_seconds(time: int, form: str, words: str) -> None:
    assert wording.short_moment(time, form) == words


@pytest.mark.parametrize(("number", "words"), [(0, "0"), (20_000, "20,000"), (200_000, "200k"), (5_000_000, "5,000k")])
def test_numbers_beside_a_chart_are_short(number: int, words: str) -> None:
    assert wording.scale_number(number) == words


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
