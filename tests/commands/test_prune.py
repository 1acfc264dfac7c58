from __future__ import annotations

import os
import pwd
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from immuproxy.ledger.model import Action, Event, Outcome
from tests.commands.conftest import Site
from tests.support.conversation import RunningEdge, image


@pytest.fixture
def recorded(site: Site) -> int:
    """Ten events, then a moment, which is returned, then one push."""
    event = Event(id="", action=Action.PUSH, outcome=Outcome.CREATED, repository="team/app", tag="1.0")
    now = time.time_ns() // 1_000_000
    site.append(*(replace(event, id=f"{number:022d}", time=now - 1000 + number) for number in range(10)))
    time.sleep(0.01)
    moment = time.time_ns() // 1_000_000
    time.sleep(0.01)

    async def push(edge: RunningEdge) -> None:
        await edge.client.push("team/app", "2.0", image("one"))

    site.talk(push)
    return moment


def since(moment: int) -> str:
    return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds")


def test_old_events_go_and_records_stay(site: Site, recorded: int) -> None:
    result = site.run("prune", "--before", since(recorded), "--yes")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("10 events from before 20")
    assert [event["tag"] for event in site.lines("history", "team/app")] == ["2.0"]
    assert site.lines("verify")[0]["holds"]


def test_who_removed_what_is_recorded(site: Site, recorded: int) -> None:
    site.run("prune", "--before", since(recorded), "--yes")
    found = site.audit("action:rules")
    assert [(event.outcome, event.actor, event.actor_source) for event in found] == [
        ("deleted", pwd.getpwuid(os.getuid()).pw_name, "operator")
    ]
    assert found[0].reason.startswith("10 events from before ")


def test_who_removes_it_may_say_their_name(site: Site, recorded: int) -> None:
    assert site.run("prune", "--before", since(recorded), "--yes", "--as", "10001").exit_code == 2
    site.run("prune", "--before", since(recorded), "--yes", "--as", "anna")
    assert [event.actor for event in site.audit("action:rules")] == ["anna"]


def test_a_dry_run_removes_nothing(site: Site, recorded: int) -> None:
    result = site.run("prune", "--before", since(recorded), "--dry-run", "--yes")
    assert result.exit_code == 0
    assert "10 events from before" in result.stdout
    assert "would go" in result.stdout
    assert len(site.lines("history", "team/app")) == 11


def test_without_yes_nothing_is_removed(site: Site, recorded: int) -> None:
    result = site.run("prune", "--before", since(recorded))
    assert result.exit_code == 2
    assert "give --yes to remove them for good" in result.stderr
    assert len(site.lines("history", "team/app")) == 11


def test_json(site: Site, recorded: int) -> None:
    (dry,) = site.lines("prune", "--before", "2999d", "--dry-run")
    assert (dry["events"], dry["removed"]) == (0, False)
    (done,) = site.lines("prune", "--before", since(recorded), "--yes")
    assert (done["events"], done["removed"]) == (10, True)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "Missing option '--before'"),
        (("--before", "yesterday"), "neither a duration back from now"),
        (("--before", "2999-01-01"), "still to come"),
    ],
)
def test_wrong_usage(site: Site, arguments: tuple[str, ...], why: str) -> None:
    result = site.run("prune", "--yes", *arguments)
    assert result.exit_code == 2
    assert why in " ".join(result.stderr.split())
