from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Iterator

import pytest

from immuproxy.ledger.model import Action, Event, Outcome
from tests.commands.conftest import HOSTILE, Site, is_harmless


def event(number: int, outcome: Outcome, reason: str = "") -> Event:
    return Event(
        id=f"{number:022d}",
        time=1_700_000_000_000 + number,
        action=Action.PUSH,
        outcome=outcome,
        repository="team/app",
        tag=f"v{number}",
        reason=reason,
    )


@contextlib.contextmanager
def events_arriving(site: Site) -> Iterator[None]:
    """Events that go on arriving; a tail that has just begun sees the next of them."""
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.wait(0.05):
            number += 2
            site.append(event(number, Outcome.CREATED), event(number + 1, Outcome.REFUSED, HOSTILE))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.fixture
def arriving(site: Site) -> Iterator[None]:
    with events_arriving(site):
        yield


def test_events_as_they_happen_one_a_line(site: Site, arriving: None) -> None:
    result = site.run("tail", "outcome:refused", "repo:team/**", "--count", "2")
    first, second = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "")
    assert "refused" in first
    assert "team/app:v" in second
    assert is_harmless(result.stdout)


def test_json_lines(site: Site, arriving: None) -> None:
    found = site.lines("tail", "--count", "3")
    assert [each["repository"] for each in found] == ["team/app"] * 3


def test_each_line_is_written_at_once_and_ctrl_c_is_a_good_end(site: Site, arriving: None) -> None:
    with site.start("tail", "--json", "outcome:created") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert json.loads(line)["outcome"] == "created"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, "")


def test_a_search_that_makes_no_sense_is_shown_where(site: Site) -> None:
    result = site.run("tail", "outcome:refused", "repos:x")
    assert result.exit_code == 2
    assert "outcome:refused repos:x\n                ^^^^^^^" in result.stderr
    assert "did you mean" in result.stderr


def test_redis_that_goes_away_ends_it(site: Site) -> None:
    with site.start("tail", "--json") as process:
        assert process.stdout is not None
        with events_arriving(site):
            process.stdout.readline()
        site.redis.kill()
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "error: Redis at redis://127.0.0.1" in errors
