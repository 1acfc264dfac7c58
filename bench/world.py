"""A made-up registry of any age: 5,000 repositories, one with 20,000 tags, one tag with 2,000 events, and some values
that are rare.  The same for the same number of events; every page has as much to show in a small audit as in a large
one, so that what differs is what the queries leave unread.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from immuproxy.ledger.model import Action, Event, Outcome
from tests.audit.made_up import DAY_MS, made_up_events, repository_names

DAYS = 90
REPOSITORIES = 5_000
MANY = "big/many-tags"
MANY_TAGS = tuple(f"v{number % 7}.{number}" for number in range(20_000))
BUSY, BUSY_TAG, BUSY_EVENTS = "busy/service", "latest", 2_000
RARE, RARE_TAG, RARE_EVENTS = "rare/thing", "only-here", 60
RARE_ACTOR, RARE_RULE, RARE_ADDRESS = "rare-person", "rare rule", "192.0.2.7"
RARE_AGENT, RARE_WORD = "rare-agent/1.0", "zebra"
SOME_ACTOR, SOME_NETWORK, SOME_EVENTS = "some-person", "10.3.7.0/28", 150
"""Someone who works in a team, with events enough to fill a page of an audit of any size."""

OTHER_TAGS = ("latest", "v1.0.0", "v1.1.0")
MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
_EVERY_MANY = 50


def manifest_of(repository: str, tag: str) -> bytes:
    """The bytes that a tag holds: an image of two layers, another for each tag."""
    layers = [f"{repository}:{tag}:{number}" for number in range(2)]
    descriptors = [
        {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": 1_000_000, "digest": digest_of(layer)}
        for layer in layers
    ]
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2_000, "digest": digest_of(tag)}
    body = {"schemaVersion": 2, "mediaType": MEDIA_TYPE, "config": config, "layers": descriptors}
    return json.dumps(body, separators=(",", ":")).encode()


def digest_of(content: str | bytes) -> str:
    """As registries write it."""
    return "sha256:" + hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


@dataclass(frozen=True, slots=True)
class World:
    """``count`` events up to ``end`` (milliseconds)."""

    count: int
    end: int

    @property
    def start(self) -> int:
        """When the oldest event was."""
        return self.end - DAYS * DAY_MS

    @property
    def held(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Every repository with the tags that it holds."""
        yield MANY, MANY_TAGS
        yield BUSY, (BUSY_TAG, *OTHER_TAGS[1:])
        yield RARE, (RARE_TAG,)
        for name in repository_names(REPOSITORIES - 3):
            yield name, OTHER_TAGS

    def events(self, first: int, last: int) -> Iterator[Event]:
        """The events from number ``first`` to before ``last``, oldest first; slices can be made side by side."""
        days = DAYS * (last - first) / self.count
        start = self.start + DAYS * DAY_MS * first // self.count
        ordinary = made_up_events(
            last - first,
            seed=first + 1,
            repositories=REPOSITORIES - 3,
            start=start,
            days=days,
            popularity=1,
            first=first,
        )
        for number, event in enumerate(ordinary, first):
            yield self._planted(number, event)

    def _planted(self, number: int, event: Event) -> Event:
        if number % max(1, self.count // RARE_EVENTS) == 3:
            return _rare(event)
        if number % max(2, self.count // BUSY_EVENTS) == 1:
            return replace(event, repository=BUSY, tag=BUSY_TAG)
        if number % max(3, self.count // SOME_EVENTS) == 2:
            return _some(number, event)
        if number % _EVERY_MANY == 0:
            return replace(event, repository=MANY, tag=MANY_TAGS[number // _EVERY_MANY % len(MANY_TAGS)])
        return event


def _some(number: int, event: Event) -> Event:
    return replace(
        event,
        action=Action.DELETE_TAG,
        outcome=Outcome.REFUSED,
        repository=f"team-1/some-{number % 4}",
        tag=f"v1.{number % 100}",
        actor=SOME_ACTOR,
        rule="releases",
        client_address=f"10.3.7.{1 + number % 14}",
    )


def _rare(event: Event) -> Event:
    return replace(
        event,
        action=Action.PUSH,
        outcome=Outcome.REFUSED,
        repository=RARE,
        tag=RARE_TAG,
        digest=digest_of(RARE),
        actor=RARE_ACTOR,
        rule=RARE_RULE,
        client_address=RARE_ADDRESS,
        user_agent=RARE_AGENT,
        reason=f"a {RARE_WORD} stood in the way",
    )
