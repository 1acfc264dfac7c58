"""What people and scripts ask the console, as addresses.  PURE but for `Visit`, which follows cursors and links."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from bench import world
from immuproxy.console.links import manifest_url, repository_url, tag_url, with_query

API = "/api/v1"
DEEP = 20
"""Pages that a deep cursor has behind it."""

Fetch = Callable[[str], bytes]

SEARCHES = {
    "everything": "",
    "outcome, frequent": "outcome:created",
    "outcome, two": "outcome:refused outcome:failed",
    "all outcomes but two": "-outcome:created -outcome:unchanged",
    "action": "action:delete-tag",
    "action, pattern": "action:delete-*",
    "repository, busy": f"repo:{world.BUSY}",
    "repository, rare": f"repo:{world.RARE}",
    "repositories of a team": "repo:team-1/**",
    "repositories of all teams": "repo:team-*/**",
    "repository by its end": f"repo:**/{world.BUSY.rpartition('/')[2]}",
    "all but a team": "-repo:team-1/**",
    "tag, frequent": "tag:latest",
    "tag, rare": f"tag:{world.RARE_TAG}",
    "tag, pattern, frequent": "tag:v1*",
    "tag, pattern, rare": "tag:only-*",
    "tag of a repository": f"repo:{world.BUSY} tag:{world.BUSY_TAG}",
    "tag, pattern, in the repository of 20,000": f"repo:{world.MANY} tag:v1*",
    "tag, rare pattern, in the repository of 20,000": f"repo:{world.MANY} tag:v3.1999*",
    "digest, whole": "digest:{digest}",
    "digest, 6 digits": "digest:{digest6}",
    "digest, 2 digits": "digest:ab",
    "actor, frequent": "actor:ci-1",
    "actor, rare": f"actor:{world.RARE_ACTOR}",
    "actor, pattern": "actor:ci-1*",
    "actor, none": 'actor:""',
    "all but an actor": "-actor:ci-1",
    "rule, frequent": "rule:releases",
    "rule, rare": f'rule:"{world.RARE_RULE}"',
    "address, rare": f"ip:{world.RARE_ADDRESS}",
    "address, unknown": "ip:203.0.113.9",
    "network /16": "ip:10.3.0.0/16",
    "network /28": f"ip:{world.SOME_NETWORK}",
    "program, frequent": "agent:docker/*",
    "program, rare": f"agent:{world.RARE_AGENT}",
    "event id": "id:{event}",
    "shadow": "shadow:yes",
    "not shadow": "shadow:no",
    "since 24 h": "since:24h",
    "since 30 d, until 29 d": "since:30d until:29d",
    "until 60 d": "until:60d",
    "until 60 d, a team": "until:60d repo:team-1/**",
    "word, frequent": "kernel",
    "word, rare": world.RARE_WORD,
    "word, never": "nosuchword",
    "word, never, in a team": "repo:team-1/** nosuchword",
    "word, never, since 7 d": "nosuchword since:7d",
    "word, rare, in a repository": f"repo:{world.RARE} {world.RARE_WORD}",
    "actor refused": f"actor:{world.SOME_ACTOR} outcome:refused since:45d",
    "actor and rule": "actor:ci-7 rule:archive",
    "actor and rule, never": f'actor:ci-7 rule:"{world.RARE_RULE}"',
    "tag and outcome": "tag:latest outcome:refused",
    "three keys": "rule:releases outcome:refused action:delete-tag",
    "team, tag, outcome": "repo:team-1/** tag:v1* outcome:refused",
    "team, actor, outcome": f"repo:team-1/** actor:{world.SOME_ACTOR} outcome:refused",
    "team, busy actor, outcome": "repo:team-1/** actor:ci-7 outcome:refused",
    "nobody": "actor:nobody-at-all",
    "no such repository": "repo:no/such/thing",
    "address and word": "ip:10.3.0.0/16 nosuchword",
}

COMPLETIONS = {
    "key": "re",
    "repository": "repo:team-3",
    "tag": "tag:v1",
    "tag of a repository": f"repo:{world.MANY} tag:v1",
    "actor": "actor:ci-1",
    "rule": "rule:re",
    "address": "ip:10.3",
}


@dataclass(frozen=True, slots=True)
class Page:
    """Something to measure: what it is, and its address for a world."""

    name: str
    address: str


class Visit:
    """Addresses for one console: some name what only that one has."""

    def __init__(self, fetch: Fetch) -> None:
        """``fetch`` gets a path and gives the body."""
        self._fetch = fetch

    def _json(self, path: str) -> Any:
        return json.loads(self._fetch(API + path))

    def pages(self) -> Iterator[Page]:
        """All of them; the same names in the same order for every console."""
        one = self._json("/events?limit=1&q=outcome:created")["events"][0]
        yield from self._overview()
        yield from self._audit(one)
        yield from self._repositories()
        yield from self._places(one)
        for name, path in (("rules", "/rules"), ("event", f"/events/{one['id']}"), ("status", "")):
            yield from _both(name, path) if path else (Page("status, JSON", f"{API}/status"),)
        yield Page("explain, JSON", with_query(f"{API}/rules/explain", tag=f"{world.BUSY}:{world.BUSY_TAG}"))
        for name, text in COMPLETIONS.items():
            yield Page(f"completion: {name}, JSON", with_query(f"{API}/complete", q=text))
        yield Page("health", "/healthz")
        yield Page("metrics", "/metrics")

    def _overview(self) -> Iterator[Page]:
        for name in ("1h", "24h", "7d", "30d", "90d"):
            yield from _both(f"overview, {name}", "", f"?range={name}", page="/", api="/overview")

    def _audit(self, one: dict[str, Any]) -> Iterator[Page]:
        digest = one["digest"]
        known = {"{digest}": digest, "{digest6}": digest[7:13], "{event}": one["id"]}
        for name, text in SEARCHES.items():
            for placeholder, value in known.items():
                text = text.replace(placeholder, value)  # noqa: PLW2901
            yield from _both(f"audit: {name}", "", with_query("", q=text), page="/audit", api="/events")
        for name, text in (("everything", ""), ("outcome:created", "outcome:created"), ("a team", "repo:team-1/**")):
            cursor = self._deep("/events", q=text, limit=50)
            yield from _both(
                f"audit: {name}, page {DEEP}", "", with_query("", q=text, cursor=cursor), page="/audit", api="/events"
            )
        yield Page("audit: everything, 1,000 at once, JSON", f"{API}/events?limit=1000")

    def _deep(self, path: str, **query: str | int) -> str:
        cursor = ""
        for _ in range(DEEP):
            found = self._json(with_query(path, cursor=cursor, **query))
            cursor = found["next_cursor"] or cursor
        return cursor

    def _repositories(self) -> Iterator[Page]:
        for order in ("activity", "name", "events", "refusals"):
            yield from _both(f"repositories by {order}", "/repositories", f"?order={order}")
        for name, text in (("with a filter", "team-3"), ("with a rare filter", "app-77"), ("with none", "no-such")):
            yield from _both(f"repositories {name}", "/repositories", f"?filter={text}")
        cursor = self._deep("/repositories", order="events", limit=50)
        yield from _both(f"repositories, page {DEEP}", "/repositories", with_query("", order="events", cursor=cursor))

    def _places(self, one: dict[str, Any]) -> Iterator[Page]:
        yield from _both("repository, small", repository_url(world.RARE))
        yield from _both("repository of 20,000 tags", many := repository_url(world.MANY))
        for name, text in (("frequent", "v1."), ("rare", "v3.1999"), ("never", "x-never")):
            yield from _both(f"repository of 20,000 tags, filter {name}", many, f"?filter={text}")
        cursor = self._deep(many.replace("/repositories/", "/repositories/"), limit=50)
        yield from _both(f"repository of 20,000 tags, page {DEEP}", many, with_query("", cursor=cursor))
        yield from _both("tag of 2,000 events", tag_url(world.BUSY, world.BUSY_TAG))
        yield from _both("tag among 20,000", tag_url(world.MANY, world.MANY_TAGS[7]))
        held = world.digest_of(world.manifest_of(world.BUSY, world.BUSY_TAG))
        yield from _both("manifest that a tag holds", manifest_url(world.BUSY, held))
        yield from _both("manifest of an event", manifest_url(one["repository"], one["digest"]))


def _both(name: str, path: str, query: str = "", *, page: str = "", api: str = "") -> tuple[Page, Page]:
    """The page and its twin."""
    return Page(name, (page or path) + query), Page(f"{name}, JSON", API + (api or path) + query)


EXPORTS = {
    "export of everything, CSV": f"{API}/events.csv",
    "export of everything, JSON Lines": f"{API}/events.jsonl",
    "export of a rare word, CSV": f"{API}/events.csv?q={quote(world.RARE_WORD)}",
    "export of refusals, CSV": f"{API}/events.csv?q=outcome:refused",
}
