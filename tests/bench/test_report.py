from __future__ import annotations

import json

from bench.measure import Row, Series
from bench.report import document, heading, table

SPEED = Series(
    Row("get", "GET, /s", 0),
    [
        {"direct": 2_000.0, "nginx": 1_000.0, "HAProxy": 900.0, "immuproxy": 500.0},
        {"direct": 2_000.0, "nginx": 1_000.0, "HAProxy": 900.0, "immuproxy": 1_500.0},
        {"direct": 1_000.0, "nginx": 1_000.0, "HAProxy": 900.0, "immuproxy": 800.0},
    ],
)
BYTES = Series(Row("bytes", "bytes of a tag", 1), [{"immuproxy": 5_432.0}])


def test_a_row_has_medians_and_the_spread_of_both_ratios() -> None:
    head, rule, speed, size = table([SPEED, BYTES]).splitlines()
    assert head == "| what | direct | nginx | HAProxy | immuproxy | of nginx | of direct |"
    assert rule == "|---|---|---|---|---|---|---|"
    assert speed == "| GET, /s | 2,000 | 1,000 | 900 | 800 | 0.80 (0.50 to 1.50) | 0.75 (0.25 to 0.80) |"
    assert size == "| bytes of a tag | - | - | - | 5,432.0 | - | - |"


def test_the_document_has_each_value_and_can_be_written_as_json() -> None:
    found = json.loads(json.dumps(document([SPEED, BYTES], {"date": "2026-11-28"})))
    assert found["date"] == "2026-11-28"
    speed, size = found["rows"]
    assert (speed["key"], speed["name"]) == ("get", "GET, /s")
    assert speed["values"]["immuproxy"] == [500, 1_500, 800]
    assert speed["medians"] == {"direct": 2_000, "nginx": 1_000, "HAProxy": 900, "immuproxy": 800}
    assert speed["ratio_to_nginx"]["immuproxy"] == {"median": 0.8, "low": 0.5, "high": 1.5}
    assert set(speed["ratio_to_direct"]) == {"nginx", "HAProxy", "immuproxy"}
    assert size["ratio_to_nginx"] == size["ratio_to_direct"] == {}


def test_the_heading_says_when_where_and_with_what() -> None:
    about = {
        "date": "2026-11-28",
        "machine": "a machine",
        "load_before": 0.5,
        "load_after": 3.1,
        "runs": 5,
        "scale": 0.1,
    }
    said = heading(about | {"versions": {"nginx": "1.22.1", "wrk": "4.1.0"}})
    assert said.startswith("2026-11-28, a machine; load before 0.5, after 3.1. 5 runs, scale 0.1.\n")
    assert "nginx 1.22.1, wrk 4.1.0.\n" in said
