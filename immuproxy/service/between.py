"""What the processes of one proxy say to each other: hints for the office, and its questions to the edges.

All goes by descriptors that their parent has opened before there was a process, so there is nothing in the file system
that others could reach or that could be left behind, and whoever ends and is replaced finds the same ones.  Nobody
waits for anybody: an edge drops a hint that the office does not take, and the office goes on without an edge that does
not answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

from cachetools import TTLCache
from prometheus_client import CollectorRegistry

from immuproxy.console.sources import PULLS, PUSHES, Dependency
from immuproxy.drift.healer import Healer
from immuproxy.ledger.model import TagRecord
from immuproxy.ledger.register import Register
from immuproxy.store.redis import LedgerUnavailableError
from immuproxy.telemetry.merging import Snapshot, Totals, merged, snapshot
from immuproxy.telemetry.metrics import Metrics, Registry

PATIENCE = 1.0
"""Seconds that the office waits for the answer of an edge."""

AGAIN = 1.0
"""Seconds for which drift of a tag that was told is not told again: each reader of it finds it."""

MOST_TOLD = 1_000

_LONGEST = 64 * 1024
_ALIVE, _METRICS = b"alive", b"metrics"


@dataclass(frozen=True, slots=True)
class Wires:
    """The descriptors.

    ``hints``: both ends of a pipe, from the edges to the office.  ``asked``: for each edge, by its name, the end on
    which the office asks and the one on which it is asked.  ``totals``: the file of
    `immuproxy.telemetry.merging.Totals`.
    """

    hints: tuple[int, int]
    asked: Mapping[str, tuple[socket.socket, socket.socket]]
    totals: int

    @classmethod
    def open(cls, edges: Sequence[str]) -> Wires:
        """Those of a proxy with these edges."""
        asked = {name: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for name in edges}
        for end in (end for pair in asked.values() for end in pair):
            end.setblocking(False)
        hints = os.pipe()
        for descriptor in hints:
            os.set_blocking(descriptor, False)
        return cls(hints, asked, os.memfd_create("immuproxy-totals"))


class Hints:
    """What an edge tells the office, and does not wait for."""

    def __init__(self, pipe: int) -> None:
        """``pipe``: its end to write to.  Its lines are whole: what fits into the pipe's buffer is written at once."""
        self._pipe = pipe
        self._told: TTLCache[tuple[str, str], str] = TTLCache(MOST_TOLD, AGAIN)

    def published(self, repository: str) -> None:
        """There is an event in the repository's outbox; without the hint it is found within some seconds."""
        self._say(repository)

    def drifted(self, found: TagRecord, seen: str) -> None:
        """The upstream shows ``seen`` under a tag; without the hint the next reader tells of it, or the sweep."""
        place = found.repository, found.tag
        if found.committed is not None and place not in self._told:
            self._told[place] = seen
            self._say(*place, found.committed.digest, seen)

    def _say(self, *words: str) -> None:
        line = json.dumps(words).encode() + b"\n"
        if len(line) <= select.PIPE_BUF:  # more is not written as one
            with suppress(BlockingIOError):
                os.write(self._pipe, line)


class Heard:
    """The other end of the hints."""

    def __init__(self, pipe: int) -> None:
        """``pipe``: its end to read from."""
        self._pipe = pipe

    async def follow(self, published: Callable[[str], None], register: Register, healer: Healer) -> None:
        """Take hints for ever; cancel it to stop."""
        async with _lines(self._pipe) as lines:
            while line := await lines.readline():
                with suppress(ValueError):  # the one before us had taken the beginning of it
                    match json.loads(line):
                        case [str(repository)]:
                            published(repository)
                        case [str(repository), str(tag), str(held), str(seen)]:
                            await _look_at(register, healer, (repository, tag), held=held, seen=seen)


@asynccontextmanager
async def _lines(pipe: int) -> AsyncIterator[asyncio.StreamReader]:
    reader = asyncio.StreamReader()
    with os.fdopen(os.dup(pipe), "rb", buffering=0) as end:
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, end)
        try:
            yield reader
        finally:
            transport.close()


async def _look_at(register: Register, healer: Healer, place: tuple[str, str], *, held: str, seen: str) -> None:
    """Report what a reader found, where the tag still holds what it held then."""
    with suppress(LedgerUnavailableError):
        found = await register.read(*place)
        if found.committed is not None and found.committed.digest == held:
            healer.report(found, seen)


class Answering:
    """The end on which an edge is asked."""

    def __init__(self, end: socket.socket, name: str) -> None:
        """``name``: of this process, with how often it was replaced."""
        self._end = end
        self._name = name

    async def run(self, metrics: Metrics) -> None:
        """Answer for ever; cancel it to stop.  Each question brings the socket on which it is to be answered."""
        while True:
            await _readable(self._end)
            word, descriptors, _, _ = socket.recv_fds(self._end, 16, 1)
            with socket.socket(fileno=descriptors[0]) as answer, suppress(OSError):  # who asked may be gone by now
                answer.setblocking(False)
                await self._answer(word, answer, metrics)

    async def _answer(self, word: bytes, answer: socket.socket, metrics: Metrics) -> None:
        said = self._name.encode() + b"\n"
        if word == _METRICS:
            said += await asyncio.to_thread(snapshot, metrics.registry)
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_sendall(answer, said)


async def _readable(sock: socket.socket) -> None:
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sock, came.set)
    try:
        await came.wait()
    finally:
        loop.remove_reader(sock)


class Edges:
    """The edges, as the office asks them."""

    def __init__(self, ends: Sequence[socket.socket], totals: int, name: str) -> None:
        """``ends``: on which they are asked; ``name`` is that of this process, with how often it was replaced."""
        self._ends = ends
        self._tally = Totals(totals)
        self._name = name
        self._merging = asyncio.Lock()

    async def serve(self) -> Dependency:
        """Whether they answer."""
        answers = [each for each in await self._all(_ALIVE) if each is not None]
        words = f"{len(answers)} of {len(self._ends)} processes answer"
        stops = frozenset({PULLS, PUSHES}) if not answers else frozenset[str]()
        return Dependency("edge", ok=len(answers) == len(self._ends), detail=words, stops=stops)

    async def metrics(self, own: Metrics) -> CollectorRegistry:
        """Those of all processes; ``own`` are this one's."""
        told = dict(filter(None, map(_told, await self._all(_METRICS))))
        async with self._merging:
            return await asyncio.to_thread(self._merged, own.registry, told)

    def _merged(self, own: Registry, told: dict[str, Snapshot]) -> CollectorRegistry:
        told[self._name] = json.loads(snapshot(own))
        return merged(own, list(told.values()), self._tally.take(told))

    async def _all(self, word: bytes) -> Sequence[bytes | None]:
        return await asyncio.gather(*map(partial(_ask, word), self._ends))


def _told(answer: bytes | None) -> tuple[str, Snapshot] | None:
    """Which process it is, and its metrics; None where it ended in the middle of them, or before."""
    name, _, said = (answer or b"").partition(b"\n")
    try:
        return name.decode(), json.loads(said)
    except ValueError:
        return None


async def _ask(word: bytes, end: socket.socket) -> bytes | None:
    """The whole answer; None where there is none in time."""
    with ExitStack() as stack:
        mine, theirs = map(stack.enter_context, socket.socketpair())
        mine.setblocking(False)
        try:
            socket.send_fds(end, [word], [theirs.fileno()])
            theirs.close()
            async with asyncio.timeout(PATIENCE):
                return await _whole(mine)
        except OSError:  # also where time is over
            return None


async def _whole(sock: socket.socket) -> bytes | None:
    loop, pieces = asyncio.get_running_loop(), list[bytes]()
    while piece := await loop.sock_recv(sock, _LONGEST):
        pieces.append(piece)
    return b"".join(pieces) or None
