from __future__ import annotations

import asyncio
import os
import pwd
import time
from collections.abc import Awaitable, Callable

import pytest

from immuproxy.allow.exceptions import Exceptions
from immuproxy.ledger.model import Action, Event, Outcome
from immuproxy.store.redis import connect
from tests.commands.conftest import HOSTILE, Site, is_harmless
from tests.support.conversation import RunningEdge, image

ME = pwd.getpwuid(os.getuid()).pw_name
FOR = ("--for", "30m", "--reason", "the key leaked")


def push(seed: str) -> Callable[[RunningEdge], Awaitable[int]]:
    async def conversation(edge: RunningEdge) -> int:
        return (await edge.client.push("team/app", "1.0", image(seed))).status

    return conversation


def test_a_tag_may_be_overwritten_until_the_exception_ends(site: Site) -> None:
    assert [site.talk(push("one")), site.talk(push("two"))] == [201, 409]
    result = site.run("allow", "team/app:1.0", *FOR)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("team/app:1.0 may be overwritten with any image until 20")
    assert site.talk(push("two")) == 201
    assert site.run("allow", "team/app:1.0", "--end").exit_code == 0
    assert site.talk(push("three")) == 409
    events = [event for event in site.lines("history", "team/app:1.0") if event["action"] == "exception"]
    assert [(event["outcome"], event["actor"], event["actor_source"], event["reason"]) for event in events] == [
        ("ended", ME, "operator", "ended by hand: the key leaked"),
        ("granted", ME, "operator", "the key leaked"),
    ]
    assert events[1]["rule"] == "default"


@pytest.mark.parametrize(
    ("arguments", "sudo_user", "name"),
    [
        (("--as", "Anna Berg"), "bert", "Anna Berg"),
        ((), "bert", "bert"),
        ((), "", ME),
    ],
)
def test_the_audit_names_the_person(
    site: Site, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], sudo_user: str, name: str
) -> None:
    monkeypatch.setenv("SUDO_USER", sudo_user)
    assert [found["by"] for found in site.lines("allow", "team/app:1.0", *FOR, *arguments)] == [name]
    assert site.run("allow", "team/app:1.0", "--end", *arguments).exit_code == 0
    assert [event.actor for event in site.audit("action:exception")] == [name, name]


@pytest.mark.parametrize("arguments", [("--as", "10001"), ("--as", "uid 10001"), ("--as", " "), ("--as", "a\nb")])
def test_what_names_nobody_is_refused(site: Site, arguments: tuple[str, ...]) -> None:
    for rest in (FOR, ("--end",)):
        result = site.run("allow", "team/app:1.0", *rest, *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "name a person" in " ".join(result.stderr.split())
    assert site.lines("allow", "--list") == []


def test_a_user_who_is_but_a_number_has_to_say_who_they_are(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container, where the operating system knows no names."""
    monkeypatch.setattr(os, "getuid", lambda: 4_294_967_000)
    result = site.run("allow", "team/app:1.0", *FOR)
    assert result.exit_code == 2
    assert "say who you are with --as NAME" in " ".join(result.stderr.split())
    assert site.lines("allow", "team/app:1.0", *FOR, "--as", "anna")[0]["by"] == "anna"


def test_only_one_digest_may_be_allowed(site: Site) -> None:
    site.talk(push("one"))
    (granted,) = site.lines("allow", "team/app:1.0", *FOR, "--digest", image("two").digest)
    assert (granted["digest"], granted["by"]) == (image("two").digest, ME)
    assert [site.talk(push("three")), site.talk(push("two"))] == [409, 201]


def test_a_tag_may_be_deleted_once_that_is_allowed(site: Site) -> None:
    async def delete(edge: RunningEdge) -> int:
        return (await edge.client.ask("DELETE", f"/v2/team/app/manifests/{image('one').digest}")).status

    assert [site.talk(push("one")), site.talk(delete)] == [201, 405]
    result = site.run("allow", "team/app:1.0", *FOR, "--delete")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("team/app:1.0 may be deleted, whatever it holds, until 20")
    assert [found["allows"] for found in site.lines("allow", "--list")] == ["delete"]
    assert site.run("allow", "--list").stdout.splitlines()[1].split()[:2] == ["team/app:1.0", "delete"]
    assert [site.talk(push("two")), site.talk(delete)] == [409, 202]
    found = site.lines("history", "team/app")
    told = {event["action"]: event["reason"] for event in found if event["outcome"] in {"granted", "deleted"}}
    assert told["exception"] == "may be deleted: the key leaked"
    assert "a temporary exception allows it: event " in told["delete-manifest"]


def test_the_list_has_what_is_in_force(site: Site) -> None:
    assert site.run("allow", "--list").stderr == "no exception is in force\n"
    site.run("allow", "team/app:1.0", *FOR)
    site.run("allow", "team/web:2.0", "--for", "10ms", "--reason", "over at once")
    time.sleep(0.02)
    heading, row = site.run("allow", "--list").stdout.splitlines()
    assert heading.split() == ["tag", "allows", "until", "digest", "granted", "by", "reason"]
    assert row.split()[0] == "team/app:1.0"
    assert [found["tag"] for found in site.lines("allow", "--list")] == ["1.0"]


def test_a_tag_that_the_ledger_does_not_know_is_asked_about(site: Site) -> None:
    result = site.run("allow", "team/ap:1.0", *FOR)
    assert result.exit_code == 0
    assert result.stderr == "warning: nobody has pushed or imported team/ap:1.0 yet; is the name right?\n"


def test_a_tag_whose_name_stays_taken_is_known(site: Site) -> None:
    async def delete(edge: RunningEdge) -> int:
        edge.use_rules("rules: [{name: gone, policy: immutable, delete: allow}]")
        return (await edge.client.ask("DELETE", f"/v2/team/app/manifests/{image('one').digest}")).status

    assert [site.talk(push("one")), site.talk(delete)] == [201, 202]
    assert site.run("allow", "team/app:1.0", *FOR).stderr == ""


def test_what_has_no_exception_cannot_be_ended(site: Site) -> None:
    result = site.run("allow", "team/app:1.0", "--end")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "there is no exception for team/app:1.0\n"


def test_where_the_tag_may_move_anyway_that_is_said(site: Site) -> None:
    result = site.run("allow", "team/app:latest", *FOR)
    assert result.exit_code == 0
    assert "rule moving (line 6) does not hold team/app:latest" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "name the tag"),
        (("team/app",), "REPOSITORY:TAG"),
        (("team/app:1.0",), "needs --for and --reason"),
        (("team/app:1.0", "--for", "30m"), "needs --for and --reason"),
        (("team/app:1.0", "--for", "30", "--reason", "x"), "add a unit"),
        (("team/app:1.0", "--for", "31d", "--reason", "x"), "at most 30d"),
        (("team/app:1.0", "--for", "0s", "--reason", "x"), "at most 30d"),
        (("team/app:1.0", "--for", "30m", "--reason", " "), "say in a few words why"),
        (("team/app:1.0", "--for", "30m", "--reason", "a\nb"), "one line"),
        (("team/app:1.0", "--for", "30m", "--reason", "x" * 501), "at most 500 characters"),
        (("team/app:1.0", "--for", "30m", "--reason", "x", "--digest", "sha256:12"), "no digest"),
        (("team/app:1.0", "--end", "--for", "30m"), "--end does not go with --for"),
        (("team/app:1.0", "--list"), "--list does not go with REPO:TAG"),
        (("team/app:1.0", "--end", "--delete"), "--end does not go with --delete"),
        (("--list", "--delete"), "--list does not go with --delete"),
        (("--list", "--as", "anna"), "--list does not go with --as"),
    ],
)
def test_wrong_usage(site: Site, arguments: tuple[str, ...], why: str) -> None:
    result = site.run("allow", *arguments)
    assert result.exit_code == 2
    assert why in " ".join(result.stderr.split())
    assert site.lines("allow", "--list") == []


def test_what_others_wrote_cannot_steer_the_terminal(site: Site) -> None:
    async def grant() -> None:
        async with connect(site.redis.url, timeout=5.0) as store:
            event = Event(
                id="0" * 22,
                action=Action.EXCEPTION,
                outcome=Outcome.GRANTED,
                repository="team/app",
                tag="1.0",
                actor=HOSTILE,
                reason=HOSTILE,
            )
            await Exceptions(store, lambda _: None).grant(event, lasts_ms=60_000)

    asyncio.run(grant())
    shown = site.run("allow", "--list").stdout
    assert "red" in shown
    assert is_harmless(shown)
