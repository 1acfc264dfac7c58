"""Commands say the same with the index of a proxy on this machine, with an older one, and without any."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from immuproxy.audit import Follower, Index
from immuproxy.ledger.model import Action, Event, Outcome
from immuproxy.store.redis import connect
from tests.commands.conftest import RULES, Site
from tests.support.conversation import image
from tests.support.servers import running_redis

NOW = time.time_ns() // 1_000_000
MOMENT = datetime.fromtimestamp(NOW / 1_000, UTC).isoformat()
COMMANDS = (
    ("history", "team/app"),
    ("history", "team/app:1.4", "--limit", "3"),
    ("simulate", "loose.yml"),
    ("simulate", "loose.yml", "--last", "40", "--since", "1d"),
    ("prune", "--before", MOMENT, "--dry-run"),
)


def made(count: int) -> list[Event]:
    first = Event(id="", action=Action.PUSH, outcome=Outcome.CREATED, repository="team/app")
    first = replace(first, rule="default", digest=image("one").digest)
    refused = replace(first, outcome=Outcome.REFUSED, digest=image("two").digest)
    return [
        replace(
            refused if number % 5 == 4 else first,
            id=f"{number:022x}",
            time=NOW - 1_000 + number,
            tag=f"1.{number // 5}",
        )
        for number in range(count)
    ]


def build_index(site: Site, folder: Path) -> None:
    async def go() -> None:
        index = Index(folder)
        await index.open()
        async with connect(site.redis.url, timeout=5.0) as store:
            follower = Follower(store, index)
            while await follower.step():
                pass
        await index.close()

    asyncio.run(go())


def test_with_an_index_an_older_one_and_none(site: Site) -> None:
    site.write(rules="default: mutable\n", name="loose.yml")
    site.write(rules=f"audit: {{index: index}}\n{RULES}", name="indexed.yml")
    events = made(60)
    site.append(*events[:40])
    build_index(site, site.folder / "older")
    site.append(*events[40:])
    build_index(site, site.folder / "index")
    answers = [said(site, "immuproxy.yml"), said(site, "indexed.yml")]
    (site.folder / "index").rename(site.folder / "newer")
    (site.folder / "older").rename(site.folder / "index")
    answers.append(said(site, "indexed.yml"))
    assert answers[0] == answers[1] == answers[2]
    whole, tag, changed, last, going = answers[0]
    assert [len(lines) for lines in (whole, tag, changed, last, going)] == [50, 3, 48, 32, 1]
    assert '"events":60' in going[0]


def test_with_the_index_of_another_ledger(site: Site) -> None:
    """As after the folder was left from another Redis: it is not asked."""
    site.write(rules="default: mutable\n", name="loose.yml")
    site.write(rules=f"audit: {{index: index}}\n{RULES}", name="indexed.yml")
    with running_redis() as other:
        with_other = replace(site, redis=other)
        with_other.append(*(replace(event, id=f"other-{event.id}", reason="elsewhere") for event in made(30)))
        build_index(with_other, site.folder / "index")
    site.append(*made(60))
    assert said(site, "indexed.yml") == said(site, "immuproxy.yml")


def said(site: Site, config: str) -> list[list[str]]:
    results = [site.run(*command, "--config", config, "--json") for command in COMMANDS]
    assert [result.exit_code for result in results] == [0] * len(COMMANDS)
    return [result.stdout.splitlines() for result in results]
