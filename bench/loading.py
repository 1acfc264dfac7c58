"""Puts a `World` into an empty Redis, by what the scripts would have written, but far quicker.

Several processes work out what each event becomes; this one sends it.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable
from dataclasses import dataclass

from bench.world import MEDIA_TYPE, World, digest_of, manifest_of
from immuproxy.ledger import keys
from immuproxy.ledger.model import StoredManifest
from immuproxy.ledger.packing import packed
from tests.audit.loading import Line, command, written
from tests.audit.made_up import DAY_MS

SLICE = 5_000
_PROCESSES = 2


def load(url: str, world: World) -> None:
    """Fill the Redis at ``url``; a million events take about two minutes."""
    line = Line(url)
    _hold(line, world)
    with multiprocessing.get_context("spawn").Pool(_PROCESSES) as pool:
        for commands in pool.imap(_Slice(world), range(0, world.count, SLICE)):
            line.send(commands)
    line.close()


@dataclass(frozen=True, slots=True)
class _Slice:
    """A function that can be sent to another process."""

    world: World

    def __call__(self, first: int) -> bytes:
        return b"".join(map(written, self.world.events(first, min(self.world.count, first + SLICE))))


def _hold(line: Line, world: World) -> None:
    """The records of all tags, committed over the years before."""
    for number, (repository, tags) in enumerate(world.held):
        line.send(command("SADD", keys.REPOSITORIES, repository))
        for at, tag in enumerate(tags):
            since = world.start - (number * 977 + at * 31_337) % (300 * DAY_MS)
            line.send(*_record(repository, tag, since))
            line.send(command("ZADD", keys.tags(repository), since, tag))


def _record(repository: str, tag: str, since: int) -> Iterable[bytes]:
    body = manifest_of(repository, tag)
    digest = digest_of(body)
    shown: dict[str, str | int] = {
        "digest": digest,
        "needs": digest,
        "generation": 1,
        "since": since,
        "first": since,
        "by": "ci-7",
        "first_by": "ci-7",
        "first_adopted": 0,
        "media_type": MEDIA_TYPE,
        "size": 2_002_000,
        "platforms": "linux/amd64",
        "rule": "default",
        "event": digest[-24:],
    }
    yield command("HSET", keys.tag(repository, tag), *(item for pair in shown.items() for item in pair))
    yield command("HSET", keys.pins(repository), digest, 1)
    yield command("HSET", keys.manifests(repository), digest, packed(StoredManifest(digest, MEDIA_TYPE, body)))
