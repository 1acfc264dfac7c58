"""Puts a `World` into an empty Redis, by what the scripts would have written, but far quicker.

Several processes work out what each event becomes; this one sends it.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from immuproxy.ledger.audit import entries
from tests.ledger.audit_loading import Line, Written, command

from bench.world import MEDIA_TYPE, World, digest_of, manifest_of
from immuproxy.ledger import keys
from immuproxy.ledger.model import StoredManifest
from immuproxy.ledger.records import packed
from tests.audit.made_up import DAY_MS

SLICE = 5_000
_PROCESSES = 2


def load(url: str, world: World) -> None:
    """Fill the Redis at ``url``; a million events take about two minutes."""
    line, whole = Line(url), Written()
    _hold(line, world, whole.lasts)
    for stream, part in _slices(world):
        line.send(stream)
        whole.merge(part)
    whole.send_indexes(line)
    line.close()


def _slices(world: World) -> Iterator[tuple[bytes, Written]]:
    starts = range(0, world.count, SLICE)
    with multiprocessing.get_context("spawn").Pool(_PROCESSES) as pool:
        yield from pool.imap(_Slice(world), starts)


@dataclass(frozen=True, slots=True)
class _Slice:
    """A function that can be sent to another process."""

    world: World

    def __call__(self, first: int) -> tuple[bytes, Written]:
        made = Written.of(self.world.events(first, min(self.world.count, first + SLICE)))
        stream, made.stream = b"".join(made.stream), []
        return stream, made


def _hold(line: Line, world: World, lasts: dict[str, dict[str, int]]) -> None:
    """The records of all tags, committed over the years before; the audit keeps the names of held tags."""
    for number, (repository, tags) in enumerate(world.held):
        line.send(command("SADD", keys.REPOSITORIES, repository))
        sinces = [world.start - (number * 977 + at * 31_337) % (300 * DAY_MS) for at in range(len(tags))]
        for tag, since in zip(tags, sinces, strict=True):
            line.send(*_record(repository, tag, since))
        scores = dict(zip(tags, sinces, strict=True))
        line.score(keys.tags(repository), scores)
        lasts[entries.tags_key(repository)].update(scores)
        lasts[entries.values_key("repo")][repository] = max(sinces)


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
