"""A quick way to put very many events into an empty audit: what ``audit_project.lua`` would have written, worked out
here and sent in few commands.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Self
from urllib.parse import urlsplit

from immuproxy.ledger.audit import entries, rows
from immuproxy.ledger.model import Event

_SEND_BYTES = 1 << 20
_MEMBERS_A_COMMAND = 1_000


def command(*parts: str | bytes | int) -> bytes:
    """A command as Redis reads it from the wire."""
    encoded = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in encoded)


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
            self._flush()

    def score(self, name: str, members: dict[str, int]) -> None:
        """Add members to a sorted set."""
        flat = [item for member, score in members.items() for item in (score, member)]
        for at in range(0, len(flat), 2 * _MEMBERS_A_COMMAND):
            self.send(command("ZADD", name, *flat[at : at + 2 * _MEMBERS_A_COMMAND]))

    def close(self) -> None:
        """Wait until all of it was done."""
        self.send(command("CLIENT", "REPLY", "ON"))
        self._flush()
        said = self._socket.recv(100)
        self._socket.close()
        if said != b"+OK\r\n":
            raise RuntimeError(said.decode())

    def _flush(self) -> None:
        self._socket.sendall(self._waiting)
        self._waiting.clear()


@dataclass(slots=True)
class Written:
    """What some events become: commands for the stream; postings, last times, counts and settings by their keys."""

    stream: list[bytes] = field(default_factory=list)
    postings: defaultdict[str, bytearray] = field(default_factory=partial(defaultdict, bytearray))
    lasts: defaultdict[str, dict[str, int]] = field(default_factory=partial(defaultdict, dict))
    counts: defaultdict[str, Counter[str]] = field(default_factory=partial(defaultdict, Counter))
    sets: defaultdict[str, dict[str, str]] = field(default_factory=partial(defaultdict, dict))

    @classmethod
    def of(cls, events: Iterable[Event]) -> Self:
        """``events`` as they happened: each in a millisecond of its own, none late."""
        made = cls()
        for event in events:
            made._take(event)
        return made

    def _take(self, event: Event) -> None:
        entry = entries.entry(event.to_dict())
        self.stream.append(
            command("XADD", entries.EVENTS, f"{entry.time}-0", rows.field_of(entry.packed), entry.packed)
        )
        place = struct.pack(">HIH", entry.time >> 32, entry.time & 0xFFFFFFFF, 0)
        for name in entry.postings:
            self.postings[name] += place
        for name, member in entry.lasts:
            self.lasts[name][member] = entry.time
        for name, member in entry.counts:
            self.counts[name][member] += 1
        for name, tag, value in entry.sets:
            if self.sets[name].get(tag, "").split(" ")[1:2] != value.split(" ")[1:2]:  # the same again sets nothing
                self.sets[name][tag] = value

    def merge(self, later: Written) -> None:
        """Take in what came later, all but its stream."""
        for name, ids in later.postings.items():
            self.postings[name] += ids
        for name, members in later.lasts.items():
            self.lasts[name].update(members)
        for name, counts in later.counts.items():
            self.counts[name].update(counts)
        for name, values in later.sets.items():
            self.sets[name].update(values)

    def send_indexes(self, line: Line) -> None:
        for name, ids in self.postings.items():
            line.send(command("SET", name, bytes(ids)))
        for scored in (self.lasts, self.counts):
            for name, members in scored.items():
                line.score(name, members)
        for name, values in self.sets.items():
            line.send(command("HSET", name, *(item for pair in values.items() for item in pair)))


def load(url: str, events: Iterable[Event]) -> None:
    """Fill an empty audit."""
    line, made = Line(url), Written.of(events)
    line.send(*made.stream)
    made.send_indexes(line)
    line.close()
