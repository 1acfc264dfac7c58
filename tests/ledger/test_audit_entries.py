from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immuproxy.ledger.audit import entries
from immuproxy.ledger.audit.cursors import Position, read_position, write, write_position
from immuproxy.ledger.audit.values import BadCursorError
from immuproxy.ledger.model import Event
from tests.ledger.audit_events import made_up_events


def written(event: Event) -> list[bytes]:
    return [text.encode() for text in entries.entry(event.to_dict()).pairs]


def test_an_event_survives_its_entry() -> None:
    for event in made_up_events(300):
        assert entries.event_of(entries.row(written(event))) == event


def test_an_entry_with_other_fields_is_still_an_event() -> None:
    (event,) = made_up_events(1)
    flat = written(replace(event, user_agent=""))
    at = flat.index(b"user_agent")
    assert entries.event_of(entries.row([*flat[:at], *flat[at + 2 :], b"colour", b"red"])) == replace(
        event, user_agent=""
    )


@pytest.mark.parametrize(("name", "value"), [(b"action", b"teleport"), (b"outcome", b"vanished"), (b"time", b"noon")])
def test_what_a_newer_proxy_wrote_is_no_event_of_ours(name: bytes, value: bytes) -> None:
    (event,) = made_up_events(1)
    flat = written(event)
    flat[flat.index(name) + 1] = value
    assert entries.event_of(entries.row(flat)) is None


def test_an_outbox_entry_of_a_newer_proxy_is_taken_all_the_same() -> None:
    values = {"id": "1", "time": 5, "action": "teleport", "outcome": "vanished", "colour": ["red"]}
    assert entries.entry_from_json(json.dumps(values).encode()).event_id == "1"


@pytest.mark.parametrize(
    "raw", [b"", b"no json", b"[]", b"1", b"{}", b'{"id":"1"}', b'{"id":"","action":"a","outcome":"b"}', b"\xff"]
)
def test_what_holds_no_event_is_unreadable(raw: bytes) -> None:
    with pytest.raises(entries.UnreadableError):
        entries.entry_from_json(raw)


def test_text_that_is_no_unicode_is_kept_readable() -> None:
    (event,) = made_up_events(1)
    hostile = replace(event, user_agent="a\udcffb\x00\n", actor="\udc80")
    back = entries.event_of(entries.row(written(hostile)))
    assert back is not None
    assert (back.user_agent, back.actor) == ("a?b\x00\n", "?")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.1.2.3", "10.1.2.0/24"),
        ("::ffff:10.1.2.3", "10.1.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("somewhere", "somewhere"),
    ],
)
def test_an_address_is_found_by_its_network(address: str, network: str) -> None:
    assert entries.network_of(address) == network


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
