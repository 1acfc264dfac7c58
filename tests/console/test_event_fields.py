"""What an event tells is told everywhere: in the API's description and on the event's own page."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from immuproxy.console.assets import openapi
from immuproxy.ledger.model import Event

FIELDS = [field.name for field in fields(Event)]
CONSOLE = Path(__file__).parents[2] / "immuproxy" / "console"


def test_the_description_of_the_api_has_each_field() -> None:
    described = openapi()["components"]["schemas"]["Event"]
    assert described["required"] == FIELDS
    assert list(described["properties"]) == FIELDS


def test_the_page_of_an_event_shows_each_field() -> None:
    (page,) = CONSOLE.rglob("event.html")
    shown = set(re.findall(r"\bevent\.(\w+)", page.read_text()))
    assert shown >= set(FIELDS)
