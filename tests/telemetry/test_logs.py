"""What is logged, also by the libraries, is in the form that was chosen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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
    assert "\x1b" not in "".join(lines), "colours are for terminals"


@pytest.mark.parametrize("form", ["json", "console"])
def test_h84_a_trace_shows_no_values(form: str) -> None:
    """They may be credentials."""
    text = "\n".join(said("info", form=form))
    assert "sesame" not in text
    assert "LookupError: gone" in text


MANY = """
import os, structlog
from immuproxy.telemetry import logs
logs.configure()
others = [os.fork() for _ in range(2)]
for _ in range(2000):
    structlog.get_logger("immuproxy").info("ours")
if all(others):
    [os.waitpid(other, 0) for other in others]
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_lines_of_several_processes_stay_whole(unbuffered: str) -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, check=True, env=environment)
    told = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert told == ["ours"] * 4 * 2000


DOWN = 'upstream: {url: "http://127.0.0.1:1"}\nredis: {url: "redis://127.0.0.1:1/0"}\n'


@pytest.mark.parametrize(
    ("text", "status", "problem"),
    [
        (None, 2, "cannot read immuproxy.yml: No such file or directory; name the file with --config"),
        (
            "upstream: {}\nredis: {embeded: x}\n",
            2,
            'immuproxy.yml:2:9: unknown key "embeded"; did you mean "embedded"?',
        ),
        (
            DOWN + "console: {notifications: {token_file: gone}}",
            1,
            "console.notifications.token_file: cannot read gone: No such file or directory",
        ),
        (
            DOWN.replace("http:", "https:").replace("}", ", ca_file: gone}", 1),
            1,
            "upstream.ca_file: cannot use gone: No such file or directory",
        ),
    ],
)
def test_what_keeps_it_from_starting_is_json_too(tmp_path: Path, text: str | None, status: int, problem: str) -> None:
    done = start(tmp_path, text)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert problem in [line["problem"] for line in lines if line["event"] == "cannot start"]
    assert done.returncode == status


def test_what_keeps_it_from_starting_is_a_sentence_where_the_log_is_for_people(tmp_path: Path) -> None:
    text = DOWN + "log: {format: console}\nconsole: {notifications: {token_file: gone}}"
    last = start(tmp_path, text).stderr.splitlines()[-1]
    assert last == "Error: console.notifications.token_file: cannot read gone: No such file or directory"


def start(folder: Path, text: str | None) -> subprocess.CompletedProcess[str]:
    """``immuproxy serve`` on this file, or on none, until it gives up."""
    if text is not None:
        (folder / "immuproxy.yml").write_text(text)
    command = [sys.executable, "-m", "immuproxy", "serve"]
    clean = {name: value for name, value in os.environ.items() if name != "IMMUPROXY_CONFIG"}
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False, timeout=30)
