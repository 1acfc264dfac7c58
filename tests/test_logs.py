"""What is logged, also by the libraries, is in the form that was chosen."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SPEAK = """
import logging, structlog
from immuproxy.telemetry import logs
logs.configure(level="{first}", form="json")
logs.configure(level="{level}", form="{form}")
structlog.get_logger("immuproxy").info("ours", count=1)
logging.getLogger("asyncio").info("chatter")
try:
    secret = "".join(["ses", "ame"])
    raise LookupError("gone")
except LookupError:
    logging.getLogger("aiohttp.server").exception("Error handling %s", "request")
"""


def said(level: str, form: str = "json", first: str = "info") -> list[str]:
    code = SPEAK.format(level=level, form=form, first=first)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.splitlines()


@pytest.mark.parametrize("first", ["info", "critical"])
def test_the_libraries_lines_are_json_as_well(first: str) -> None:
    ours, theirs = [json.loads(line) for line in said("info", first=first)]
    assert (ours["event"], ours["count"], ours["level"]) == ("ours", 1, "info")
    assert (theirs["event"], theirs["level"]) == ("Error handling request", "error")
    assert "LookupError: gone" in theirs["exception"]
    assert theirs["timestamp"]


def test_the_level_may_be_changed_later() -> None:
    assert said("critical") == []
    assert len(said("error")) == 1


def test_for_people_it_is_no_json() -> None:
    lines = said("info", form="console")
    assert "ours" in lines[0]
    assert any("Error handling request" in line for line in lines[1:])
    assert not lines[0].startswith("{")


@pytest.mark.parametrize("form", ["json", "console"])
def test_h84_a_trace_shows_no_values(form: str) -> None:
    """They may be credentials."""
    text = "\n".join(said("info", form=form))
    assert "sesame" not in text
    assert "LookupError: gone" in text
