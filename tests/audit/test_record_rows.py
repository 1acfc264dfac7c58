from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from immuproxy.audit.record import rows
from immuproxy.audit.search import Search
from immuproxy.audit.visiting import matching
from immuproxy.ledger.model import Event
from tests.audit.made_up import made_up_events


def written(event: Event) -> bytes:
    return rows.entry(event.to_dict()).packed.encode()


def read(raw: bytes) -> Event | None:
    found = matching([(1, raw)], Search())
    return found[0].event if found else None


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
    last = fields(event)[-1]
    without: dict[str, Any] = {last.name: last.default}
    assert read(written(event).rpartition(b"\x1f")[0]) == replace(event, **without)


def test_numbers_and_flags_are_written_as_such() -> None:
    assert rows.NUMBERS == ("size", "rule_line", "duration_ms")
    assert rows.FLAGS == ("shadow", "actor_confirmed")


def test_what_separates_values_is_replaced_in_them() -> None:
    (event,) = made_up_events(1)
    back = read(written(replace(event, reason="a\x1fb", platforms=("x\x1fy",))))
    assert back == replace(event, reason="a\ufffdb", platforms=("x\ufffdy",))


@pytest.mark.parametrize(("name", "value"), [("action", b"teleport"), ("outcome", b"vanished"), ("time", b"noon")])
def test_what_a_newer_proxy_wrote_is_no_event_of_ours(name: str, value: bytes) -> None:
    (event,) = made_up_events(1)
    values = written(event).split(b"\x1f")
    values[rows.FIELDS.index(name)] = value
    assert read(b"\x1f".join(values)) is None


def test_what_is_not_all_ascii_stands_in_a_field_of_its_own() -> None:
    (event,) = made_up_events(1)
    for reason, name in (("a", "event"), ("ä", "unicode")):
        entry = rows.entry(replace(event, reason=reason).to_dict())
        assert entry.field == name
        assert read(rows.raw_of({name.encode(): entry.packed.encode()})) == replace(event, reason=reason)


@pytest.mark.parametrize("entry", [{}, {b"other": b"x"}])
def test_what_another_program_put_into_the_stream_is_no_event(entry: dict[bytes, bytes]) -> None:
    assert read(rows.raw_of(entry)) is None


def test_an_outbox_entry_of_a_newer_proxy_is_taken_all_the_same() -> None:
    values = {"id": "1", "time": 5, "action": "teleport", "outcome": "vanished", "colour": ["red"]}
    assert rows.entry_from_json(json.dumps(values).encode()).event_id == "1"


@pytest.mark.parametrize(
    "raw", [b"", b"no json", b"[]", b"1", b"{}", b'{"id":"1"}', b'{"id":"","action":"a","outcome":"b"}', b"\xff"]
)
def test_what_holds_no_event_is_unreadable(raw: bytes) -> None:
    with pytest.raises(rows.UnreadableError):
        rows.entry_from_json(raw)


def test_text_that_is_no_unicode_is_kept_readable() -> None:
    (event,) = made_up_events(1)
    hostile = replace(event, user_agent="a\udcffb\x00\n", actor="\udc80")
    back = read(written(hostile))
    assert back is not None
    assert (back.user_agent, back.actor) == ("a?b\x00\n", "?")
