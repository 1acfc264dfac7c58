from __future__ import annotations

import time
from dataclasses import replace

import pytest

from immuproxy.ledger.model import Action, ActorSource, Event, Outcome
from tests.commands.conftest import HOSTILE, Site, is_harmless
from tests.support.conversation import RunningEdge, image

STRICT = "default: immutable\nreferrers: false\n"


@pytest.fixture
def pushed(site: Site) -> Site:
    async def push(edge: RunningEdge) -> None:
        await edge.client.push("team/app", "1.0", image("one"))
        await edge.client.push("team/app", "1.0", image("two"))
        await edge.client.push("team/app", "latest", image("one"))
        await edge.client.push("team/app", "latest", image("two"))
        await edge.client.push("team/app", "latest", image("two"))

    site.talk(push)
    site.write(rules="default: mutable\n", name="loose.yml")
    (site.folder / "strict.yml").write_text(STRICT)
    return site


def test_the_same_rules_change_nothing(pushed: Site) -> None:
    result = pushed.run("simulate", "immuproxy.yml", "--fail-on-change")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "0 of 5 recorded verdicts would change\n"


def test_what_other_rules_would_have_said_with_both_reasons(pushed: Site) -> None:
    result = pushed.run("simulate", "strict.yml")
    push, was, now = (line.strip() for line in result.stdout.splitlines()[:3])
    assert (result.exit_code, result.stderr) == (0, "2 of 5 recorded verdicts would change\n")
    assert "team/app:latest" in push
    assert was == "was: accepted as an overwrite (rule moving): rule moving lets the tag move"
    assert now.startswith("now: refused (rule default): the default (line 1) is immutable")


def test_json_and_the_status_for_scripts(pushed: Site) -> None:
    (changed,) = pushed.lines("simulate", "loose.yml", "--fail-on-change", status=1)
    assert (changed["tag"], changed["was"]["outcome"], changed["now"]["outcome"]) == ("1.0", "refuse", "overwrite")


def test_only_the_last(pushed: Site) -> None:
    # The push that was allowed then is refused, and so is the same content again.
    assert pushed.run("simulate", "strict.yml", "--last", "2").stderr == "2 of 2 recorded verdicts would change\n"
    assert pushed.run("simulate", "strict.yml", "--since", "0s").stderr.startswith("0 of 0 ")
    assert pushed.run("simulate", "strict.yml", "--since", "1h").stderr.startswith("2 of 5 ")


def test_within_knows_when_a_tag_was_first_pushed(pushed: Site) -> None:
    (pushed.folder / "within.yml").write_text(
        "default: mutable\nrules: [{name: short, tags: ['1.0'], policy: immutable, overwrite: [{within: 1h}]}]\n"
    )
    found = pushed.lines("simulate", "within.yml", "--last", "4")
    assert [(each["tag"], each["now"]["outcome"]) for each in found] == [("1.0", "overwrite")]


def test_what_a_client_chose_cannot_steer_the_terminal(site: Site) -> None:
    event = Event(
        id="0" * 22,
        time=time.time_ns() // 1_000_000,
        action=Action.PUSH,
        outcome=Outcome.REFUSED,
        repository="team/app",
        tag="1.0",
        digest=image("one").digest,
        actor=HOSTILE,
        actor_source=ActorSource.BASIC,
        rule=HOSTILE,
        reason=HOSTILE,
    )
    site.append(event, replace(event, id="1" * 22, outcome=Outcome.FAILED))
    site.write(rules="default: mutable\n", name="loose.yml")
    result = site.run("simulate", "loose.yml")
    assert result.stderr == "1 of 1 recorded verdict would change\n"
    assert "red" in result.stdout
    assert is_harmless(result.stdout)


def test_a_wrong_file_is_status_2(site: Site) -> None:
    (site.folder / "bad.yml").write_text("default: imutable\nrules: [{name: a, polcy: frozen}]\n")
    wrong, missing = site.run("simulate", "bad.yml"), site.run("simulate", "missing.yml")
    assert (wrong.exit_code, missing.exit_code) == (2, 2)
    assert "bad.yml:1:10" in wrong.stderr
    assert "bad.yml:2" in wrong.stderr
    assert missing.stderr == "cannot read missing.yml: No such file or directory\n"
