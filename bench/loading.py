"""Puts a `World` into an empty Redis, by what the scripts would have written, but thousands of times as fast.

Several processes work out what each event becomes; this one sends it.  `tests/ledger/test_audit_loading.py` holds the
result against that of the projector's script.
"""

from __future__ import annotations

import multiprocessing
import socket
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from bench.world import MEDIA_TYPE, World, digest_of, manifest_of
from immuproxy.ledger import keys
from immuproxy.ledger.audit import entries, rows
from immuproxy.ledger.model import StoredManifest
from immuproxy.ledger.records import packed
from tests.ledger.audit_events import DAY_MS

SLICE = 5_000
_PROCESSES = 2
_SEND_BYTES = 1 << 20
_TAGS_A_SCORE_COMMAND = 1_000

Scores = dict[str, dict[str, int]]


def command(*parts: str | bytes | int) -> bytes:
    """A command as Redis reads it from the wire."""
    encoded = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in encoded)


@dataclass(slots=True)
class Written:
    """What some events become: commands for the stream, postings, last times and counts."""

    stream: bytes = b""
    postings: dict[str, bytes] = field(default_factory=dict)
    lasts: Scores = field(default_factory=dict)
    counts: Scores = field(default_factory=dict)


def written(world: World, first: int) -> Written:
    """One slice of the events; runs in a process of its own."""
    stream: list[bytes] = []
    postings: defaultdict[str, bytearray] = defaultdict(bytearray)
    lasts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for event in world.events(first, min(world.count, first + SLICE)):
        entry = entries.entry(event.to_dict())
        stream.append(command("XADD", entries.EVENTS, f"{entry.time}-0", rows.field_of(entry.packed), entry.packed))
        place = struct.pack(">HIH", entry.time >> 32, entry.time & 0xFFFFFFFF, 0)
        for name in entry.postings:
            postings[name] += place
        for name, member in entry.lasts:
            lasts[name][member] = entry.time
        for name, member in entry.counts:
            counts[name][member] += 1
    plain = {name: bytes(ids) for name, ids in postings.items()}
    return Written(b"".join(stream), plain, dict(lasts), {name: dict(each) for name, each in counts.items()})


class Line:
    """Commands without replies, so that neither side waits for the other."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._socket = socket.create_connection((place.hostname, place.port or 6379))
        self._waiting = bytearray(command("CLIENT", "REPLY", "OFF"))

    def send(self, *commands: bytes) -> None:
        for each in commands:
            self._waiting += each
        if len(self._waiting) >= _SEND_BYTES:
            self.flush()

    def flush(self) -> None:
        self._socket.sendall(self._waiting)
        self._waiting.clear()

    def close(self) -> None:
        """Wait until all of it was done; raises `RuntimeError` where Redis refused a command."""
        self.send(command("CLIENT", "REPLY", "ON"), command("INFO", "errorstats"))
        self.flush()
        said = b""
        while not said.endswith(b"\r\n\r\n") and said.count(b"\r\n") < 4:
            said += self._socket.recv(65_536)
        self._socket.close()
        if b"errorstat_" in said:
            raise RuntimeError(said.decode())


def load(url: str, world: World) -> None:
    """Fill the Redis at ``url``; a million events take about two minutes."""
    line = Line(url)
    postings: defaultdict[str, bytearray] = defaultdict(bytearray)
    lasts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    _hold(line, world, lasts)
    for part in _slices(world):
        line.send(part.stream)
        for name, ids in part.postings.items():
            postings[name] += ids
        for name, members in part.lasts.items():
            lasts[name].update(members)
        for name, members in part.counts.items():
            counts[name].update(members)
    for name, posting in postings.items():
        line.send(command("SET", name, bytes(posting)))
    for name, members in (*lasts.items(), *counts.items()):
        _score(line, name, members)
    line.close()


def _slices(world: World) -> Iterator[Written]:
    starts = range(0, world.count, SLICE)
    with multiprocessing.get_context("spawn").Pool(_PROCESSES) as pool:
        yield from pool.imap(_Slice(world), starts)


@dataclass(frozen=True, slots=True)
class _Slice:
    """A function that can be sent to another process."""

    world: World

    def __call__(self, first: int) -> Written:
        return written(self.world, first)


def _score(line: Line, name: str, members: dict[str, int]) -> None:
    flat = [item for member, score in members.items() for item in (score, member)]
    for at in range(0, len(flat), 2 * _TAGS_A_SCORE_COMMAND):
        line.send(command("ZADD", name, *flat[at : at + 2 * _TAGS_A_SCORE_COMMAND]))


def _hold(line: Line, world: World, lasts: dict[str, dict[str, int]]) -> None:
    """The records of all tags, committed over the years before; the audit keeps the names of held tags."""
    for number, (repository, tags) in enumerate(world.held):
        line.send(command("SADD", keys.REPOSITORIES, repository))
        sinces = [world.start - (number * 977 + at * 31_337) % (300 * DAY_MS) for at in range(len(tags))]
        for tag, since in zip(tags, sinces, strict=True):
            line.send(*_record(repository, tag, since))
        scores = dict(zip(tags, sinces, strict=True))
        _score(line, keys.tags(repository), scores)
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
