from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immuproxy.ledger.audit import entries
from immuproxy.ledger.audit.matching import requirements

from immuproxy.audit.search import from_parameters, parse
from immuproxy.audit.values import BadCursorError
from immuproxy.ledger.cursors import Position, read_position, write, write_position
from immuproxy.ledger.model import Event
from immuproxy.ledger.record import rows
from tests.audit.made_up import made_up_events


def written(event: Event) -> bytes:
    return entries.entry(event.to_dict()).packed.encode()


def read(raw: bytes) -> Event | None:
    return rows.event_of(rows.row(raw))


def test_an_event_survives_its_entry() -> None:
    for event in made_up_events(300):
        assert read(written(event)) == event


def test_the_order_of_the_values_is_for_ever() -> None:
    # What is stored has no names beside it: a new field may only be added at the end.
    stored = (
        "id action outcome time repository tag digest previous_digest media_type size platforms rule rule_line shadow "
        "reason actor actor_source actor_confirmed client_address user_agent request_id duration_ms"
    )
    assert " ".join(rows.FIELDS).startswith(stored)


def test_an_entry_with_other_fields_is_still_an_event() -> None:
    (event,) = made_up_events(1)
    assert read(written(event) + b"\x1fred\x1fround") == event
    assert read(written(event).rpartition(b"\x1f")[0]) == replace(event, duration_ms=None)


def test_what_separates_values_is_replaced_in_them() -> None:
    (event,) = made_up_events(1)
    back = read(written(replace(event, reason="a\x1fb", platforms=("x\x1fy",))))
    assert back == replace(event, reason="a\ufffdb", platforms=("x\ufffdy",))


@pytest.mark.parametrize(("name", "value"), [("action", b"teleport"), ("outcome", b"vanished"), ("time", b"noon")])
def test_what_a_newer_proxy_wrote_is_no_event_of_ours(name: str, value: bytes) -> None:
    (event,) = made_up_events(1)
    row = list(rows.row(written(event)))
    row[rows.FIELDS.index(name)] = value
    assert rows.event_of(row) is None


def test_what_is_not_all_ascii_stands_in_a_field_of_its_own() -> None:
    (event,) = made_up_events(1)
    for reason, name in (("a", "event"), ("ä", "unicode")):
        packed = entries.entry(replace(event, reason=reason).to_dict()).packed
        assert rows.field_of(packed) == name
        assert read(rows.raw_of({name.encode(): packed.encode()})) == replace(event, reason=reason)


@pytest.mark.parametrize(
    ("text", "required"),
    [
        ("Word", [[b"word"]]),
        ("a:b:c", [[b"a:b:c", b"a\x1fb:c", b"a:b\x1fc"]]),
        ("agent:Docker/*", [[b"\x1fdocker/"]]),
        ("agent:*go* agent:skopeo", [[b"go", b"\x1fskopeo\x1f"]]),
        ("agent:* tag:v1 repo:a/b -tag:x* -word", []),
        ("tag:*-rc? repo:**/team/**/App", [[b"-rc"], [b"team/"]]),
    ],
)
def test_what_must_occur_is_known_before_the_values_are(text: str, required: list[list[bytes]]) -> None:
    search = from_parameters(0, text="a:b:c") if text == "a:b:c" else parse(text, 0)
    assert requirements(search) == required


@pytest.mark.parametrize("entry", [{}, {b"other": b"x"}])
def test_what_another_program_put_into_the_stream_is_no_event(entry: dict[bytes, bytes]) -> None:
    assert read(rows.raw_of(entry)) is None


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
    back = read(written(hostile))
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
