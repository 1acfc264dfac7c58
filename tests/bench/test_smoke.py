from __future__ import annotations

import pytest

from bench import smoke
from bench.lines.catalogue import LINES
from bench.measure import Row, Series
from bench.smoke import Margin, misses


def series(key: str, *rounds: tuple[float, float]) -> Series:
    return Series(Row(key, f"row {key}"), [{"nginx": nginx, "immuproxy": ours} for nginx, ours in rounds])


@pytest.fixture(autouse=True)
def _margins(monkeypatch: pytest.MonkeyPatch) -> None:
    margins = {"fast": Margin(least=0.5), "cost": Margin(most=2.0), "memory": Margin(most=100, itself=True)}
    monkeypatch.setattr(smoke, "MARGINS", margins)


def test_what_is_within_its_margin_says_nothing() -> None:
    good = [series("fast", (100, 50)), series("cost", (1, 2)), series("memory", (1, 100))]
    assert list(misses(good)) == []


def test_each_miss_is_a_sentence() -> None:
    bad = [series("fast", (100, 49)), series("cost", (1, 2.5)), series("memory", (1, 101))]
    assert list(misses(bad)) == [
        "row fast: 0.49 of nginx's, at least 0.5 is expected",
        "row cost: 2.50 of nginx's, at most 2 is expected",
        "row memory: 101.00, at most 100 is expected",
    ]


def test_one_bad_round_of_three_is_no_miss() -> None:
    rounds = [series("fast", (100, 60), (100, 5), (100, 70)), series("cost", (1, 1)), series("memory", (1, 1))]
    assert list(misses(rounds)) == []


def test_what_was_not_measured_is_a_miss() -> None:
    assert list(misses([series("fast", (100, 60)), Series(Row("cost", "row cost"), [{"immuproxy": 1.0}])])) == [
        "row cost: there is no value",
        "memory was not measured",
    ]


def test_the_smoke_run_asks_for_lines_that_there_are() -> None:
    assert {*smoke.BESIDE_NGINX, *smoke.ALONE} <= set(LINES)
