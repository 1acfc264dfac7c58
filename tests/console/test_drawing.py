from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immuproxy.console import drawing
from tests.console.events import NOW, digest

counts = st.fixed_dictionaries(
    dict.fromkeys(("accepted", "unchanged", "refused", "failed", "drift"), st.integers(min_value=0, max_value=10**7))
)


@pytest.mark.parametrize(
    ("value", "ceiling"), [(0, 0), (1, 1), (3, 4), (6, 10), (10, 10), (11, 20), (451, 500), (999, 1000)]
)
def test_scales_end_in_round_numbers(value: int, ceiling: int) -> None:
    assert drawing.nice_ceiling(value) == ceiling


Buckets = list[dict[str, int]]


def timed(buckets: Buckets, step: int = 1_000, last: int = 1_000) -> Buckets:
    """One after another; the last is shorter where it has only begun."""
    placed = [one | {"since": at * step, "until": (at + 1) * step} for at, one in enumerate(buckets)]
    if placed:
        placed[-1]["until"] += last - step
    return placed


NONE = dict.fromkeys(("accepted", "unchanged", "refused", "failed", "drift"), 0)


@given(st.lists(counts, max_size=90))
def test_every_bar_lies_inside_the_drawing_on_its_side_of_the_line(buckets: list[dict[str, int]]) -> None:
    drawn = drawing.chart(timed(buckets))
    assert len(drawn.bars) == sum(
        1 for bucket in buckets for name, value in bucket.items() if value and name != "drift"
    )
    assert len(drawn.drifts) == sum(1 for bucket in buckets if bucket["drift"])
    assert all(0 < x < drawing.WIDTH for x in drawn.drifts)
    for bar in drawn.bars:
        assert -0.01 <= bar.x <= bar.x + bar.width <= drawing.WIDTH + 0.01
        assert -0.02 <= bar.y <= bar.y + bar.height <= drawing.HEIGHT + 0.02
        below = bar.tone in ("bad", "odd")
        assert (bar.y >= drawn.zero - 0.02) if below else (bar.y + bar.height <= drawn.zero + 0.02)


def test_one_refusal_among_a_thousand_pushes_is_seen() -> None:
    drawn = drawing.chart(timed([NONE | {"accepted": 1000, "refused": 1}]))
    assert next(bar for bar in drawn.bars if bar.tone == "bad").height >= drawing.LEAST
    assert [level.value for level in drawn.levels] == [0, 1000], "no number that would lie upon another"


def test_a_refusal_is_as_long_as_a_push() -> None:
    drawn = drawing.chart(
        timed([NONE | {"accepted": 50}, NONE | {"refused": 50}, NONE | {"accepted": 25, "failed": 10}])
    )
    good, bad, half, fifth = (bar.height for bar in drawn.bars)
    assert good == pytest.approx(bad)
    assert [half, fifth] == pytest.approx([good / 2, good / 5], abs=0.02)
    assert [level.value for level in drawn.levels] == [0, 50, 50]
    assert [abs(level.y - drawn.zero) for level in drawn.levels[1:]] == pytest.approx([good, good], abs=0.02)


def test_a_step_that_has_only_begun_is_as_narrow_as_it_is_short() -> None:
    drawn = drawing.chart(timed([NONE] * 4, last=500))
    assert [column.width for column in drawn.columns] == pytest.approx([1000 / 3.5] * 3 + [500 / 3.5], abs=0.01)
    assert drawn.columns[-1].x + drawn.columns[-1].width == pytest.approx(drawing.WIDTH, abs=0.02)


@pytest.mark.parametrize(("step", "count", "form"), [(60, 60, "time"), (1_800, 48, "time"), (10_800, 56, "day")])
def test_four_times_stand_below_and_the_end(step: int, count: int, form: str) -> None:
    drawn = drawing.chart(timed([NONE] * count, step=step * 1_000, last=step * 1_000))
    assert [tick.share for tick in drawn.ticks] == pytest.approx([0, 25, 50, 75])
    assert drawn.form == form


def test_nothing_pushed_draws_nothing() -> None:
    assert drawing.chart([]).bars == ()
    assert drawing.chart(timed([NONE])).bars == ()


@given(st.text(max_size=80))
def test_anything_has_a_glyph(text: str) -> None:
    glyph = drawing.glyph(text)
    assert all((4 - x, y) in glyph.cells for x, y in glyph.cells)
    assert 0 <= glyph.colour < 8


def test_other_digests_have_other_glyphs() -> None:
    drawn = {drawing.glyph(digest(str(number))) for number in range(300)}
    assert len(drawn) > 295


def span(name: str, since: int, until: int) -> dict[str, Any]:
    return {"digest": digest(name), "since": since, "until": until}


def test_a_short_stretch_beside_a_long_one_is_seen() -> None:
    drawn = drawing.life([span("a", 0, 60_000), span("b", 60_000, NOW)], [], NOW)
    assert drawn is not None
    first, second = drawn.bands
    assert first.width >= drawing.WIDTH * 0.03
    assert second.x == pytest.approx(first.x + first.width, abs=0.1)


def test_a_refused_attempt_stands_in_the_stretch_in_which_it_was_made() -> None:
    drawn = drawing.life([span("a", 0, 1000), span("b", 1000, NOW)], [500, NOW // 2], NOW)
    assert drawn is not None
    assert drawn.marks[0].x < drawn.bands[1].x < drawn.marks[1].x


@given(
    st.lists(st.integers(min_value=0, max_value=NOW), min_size=1, max_size=12).map(sorted),
    st.lists(st.integers(min_value=0, max_value=NOW), max_size=12),
)
def test_a_life_never_leaves_its_frame(changes: list[int], refused: list[int]) -> None:
    spans = [span(str(since), since, until) for since, until in zip(changes, [*changes[1:], NOW], strict=True)]
    drawn = drawing.life(spans, refused, NOW)
    assert drawn is not None
    assert all(0 <= mark.x <= drawing.WIDTH for mark in drawn.marks)
    assert sum(mark.count for mark in drawn.marks) == len(refused)
    assert sum(band.count for band in drawn.bands) == len(spans)
    assert all(0 <= band.x <= drawing.WIDTH and band.width > 0 for band in drawn.bands)
    assert all(band.x + band.width <= drawing.WIDTH + 0.1 for band in drawn.bands)


def test_of_thousands_of_changes_those_too_close_are_drawn_as_one() -> None:
    day = 86_400_000
    busy = [
        span(str(number), NOW - 10 * day + number * 1000, NOW - 10 * day + number * 1000 + 1000)
        for number in range(3000)
    ]
    calm = span("calm", busy[-1]["until"], NOW)
    drawn = drawing.life([*busy, calm], [NOW - 5 * day] * 2000 + [NOW], NOW)
    assert drawn is not None
    assert [(band.count, band.digest) for band in drawn.bands] == [(3000, ""), (1, digest("calm"))]
    assert [mark.count for mark in drawn.marks] == [2000, 1]
    assert drawn.bands[1].width > 0.9 * drawing.WIDTH


def test_without_events_there_is_no_life() -> None:
    assert drawing.life([], [], NOW) is None
