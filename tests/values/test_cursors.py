from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immuproxy.values.cursors import BadCursorError, Position, read, read_position, write, write_position


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**16 - 1))
def test_a_cursor_is_read_back(ms: int, sequence: int) -> None:
    assert read_position("older", write_position("older", Position(ms, sequence))) == (ms, sequence)


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "%%%%",
        "é",
        write("newer", 1, 2),
        write("older", 1),
        write("older", 1, 2, 3),
        write("older", -1, 2),
        write("older", 1, 70_000),
        write("older", 1, 10**30),
        write("older", "1", 2),
        "W" * 5000,
    ],
)
def test_any_other_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(BadCursorError):
        read_position("older", cursor)


@pytest.mark.parametrize("parts", ["1e30", str(10**30), str(-(1 << 63)), "true", '"a"', "null"])
def test_no_cursor_has_a_number_that_no_database_holds(parts: str) -> None:
    with pytest.raises(BadCursorError):
        read("events", (int, str), made_up(f'["events",{parts},"a"]'))


@pytest.mark.parametrize("text", [r"\ud800", r"a\udfffb"])
def test_no_cursor_has_text_that_cannot_be_written(text: str) -> None:
    assert read("events", (int, str), made_up('["events",7,"a"]')) == [7, "a"]
    with pytest.raises(BadCursorError):
        read("events", (int, str), made_up(f'["events",7,"{text}"]'))


def made_up(raw: str) -> str:
    return base64.urlsafe_b64encode(raw.encode()).rstrip(b"=").decode()
