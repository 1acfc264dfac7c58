from __future__ import annotations

from bench.measure import Line, Row, Series, Spread, run

ROW = Row("speed", "speed, /s")


def test_a_ratio_is_taken_round_by_round() -> None:
    """One slow round slows both, and leaves their ratio."""
    series = Series(ROW, [{"a": 1.0, "b": 2.0}, {"a": 10.0, "b": 40.0}, {"a": 3.0, "b": 9.0}])
    assert series.ratio("a", "b") == Spread(1 / 3, 0.25, 0.5)
    assert series.median("a") == 3.0


def test_rounds_in_which_one_is_missing_are_left_out_of_the_ratio() -> None:
    series = Series(ROW, [{"a": 1.0}, {"a": 1.0, "b": 4.0}, {"b": 9.0}, {"a": 1.0, "b": 0.0}])
    assert series.ratio("a", "b") == Spread(0.25, 0.25, 0.25)
    assert series.ratio("a", "c") is None
    assert series.median("c") is None


def test_all_take_turns() -> None:
    asked = []

    def measure(contender: str) -> tuple[float | None, ...]:
        asked.append(contender)
        return float(len(asked)), None if contender == "a" else 7.0

    rows = (ROW, Row("cost", "cost"))
    speed, cost = run(Line(rows, ("a", "b", "c"), measure), 2, among=("c", "a"))
    assert asked == ["a", "c", "a", "c"]
    assert speed.rounds == [{"a": 1.0, "c": 2.0}, {"a": 3.0, "c": 4.0}]
    assert cost.rounds == [{"c": 7.0}, {"c": 7.0}]


def test_what_would_be_the_same_again_is_done_once() -> None:
    once = Line((ROW,), ("a",), lambda _: (1.0,), once=True)
    assert len(run(once, 5, among=("a",))[0].rounds) == 1
