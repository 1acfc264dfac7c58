from __future__ import annotations

from dataclasses import replace

import pytest

from immuproxy.ledger.model import Action, Event, Outcome
from tests.commands.conftest import HOSTILE, Site, is_harmless
from tests.support.conversation import RunningEdge, image


async def pushes(edge: RunningEdge) -> None:
    await edge.client.push("team/app", "1.0", image("one"))
    await edge.client.push("team/app", "1.0", image("two"))
    await edge.client.push("team/app", "latest", image("two"))
    await edge.client.push("team/web", "1.0", image("three"))


def test_the_life_of_a_tag_newest_first(site: Site) -> None:
    site.talk(pushes)
    result = site.run("history", "team/app:1.0")
    heading, refused, created = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "")
    assert heading.split() == ["time", "action", "outcome", "what", "digest", "actor", "rule", "reason"]
    assert "refused" in refused
    assert "already holds another digest" in refused
    assert "created" in created
    assert image("one").digest[:19] in created


def test_the_life_of_a_repository(site: Site) -> None:
    site.talk(pushes)
    found = site.lines("history", "team/app")
    assert [(event["tag"], event["outcome"]) for event in found] == [
        ("latest", "created"),
        ("1.0", "refused"),
        ("1.0", "created"),
    ]
    assert found[0]["digest"] == image("two").digest


def test_a_limit_and_a_word_that_there_is_more(site: Site) -> None:
    site.talk(pushes)
    result = site.run("history", "team/app", "--limit", "2")
    assert len(result.stdout.splitlines()) == 3
    assert result.stderr == "the latest 2 events; --limit shows more\n"
    assert site.run("history", "team/app", "--limit", "3").stderr == ""


def test_nothing_recorded_is_status_1(site: Site) -> None:
    result = site.run("history", "team/nobody:1.0")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "nothing is recorded of team/nobody:1.0\n"


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("localhost:5000/team/app:1.0", "leave out the host"),
        ("Team/App:1.0", "is no repository"),
        ("team/app:-1", "is no tag"),
        ("team/app:", "is no tag"),
        ("", "is no repository"),
    ],
)
def test_a_reference_that_is_none_is_status_2(site: Site, reference: str, why: str) -> None:
    result = site.run("history", reference)
    assert result.exit_code == 2
    assert why in result.stderr


def test_what_a_client_chose_cannot_steer_the_terminal(site: Site) -> None:
    event = Event(
        id="0" * 22,
        time=1_700_000_000_000,
        action=Action.PUSH,
        outcome=Outcome.REFUSED,
        repository="team/app",
        tag="1.0",
        actor=HOSTILE,
        rule=HOSTILE,
        reason=HOSTILE,
    )
    site.append(event, replace(event, id="1" * 22, tag=HOSTILE))
    shown = site.run("history", "team/app")
    assert "red" in shown.stdout
    assert is_harmless(shown.stdout)
    as_json = site.run("history", "team/app", "--json")
    assert is_harmless(as_json.stdout)
    assert site.lines("history", "team/app:1.0")[0]["reason"] == HOSTILE
