from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immuproxy.ledger.cursors import BadCursorError, Position, read_position, write, write_position


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
