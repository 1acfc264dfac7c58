"""The parent of a proxy's processes: it opens the sockets, and starts, replaces and stops those who use them.

Each is a fork of the parent, which has imported all that any of them needs and has read the file.  So the proxy is
imported once however many processes it has, one that ends is replaced at once and by the same code, whatever was
installed since, and what they have in common is in memory once.  The parent itself has no loop, no thread and no
connection: it sleeps until a signal or a process wants something.

The edges share each listening socket, and who has nothing to do takes the next connection.  With a socket for each of
them (SO_REUSEPORT) the kernel would choose by the client's address: connections would wait behind a process that is
busy, and those in the queue of one that ends would be lost.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import random
import select
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import structlog

from immuproxy.rules.problems import DocumentErrors
from immuproxy.rules.source import MAX_BYTES
from immuproxy.service.app import say_ready, say_stopping, until_stopped
from immuproxy.service.base import Start
from immuproxy.service.between import Wires
from immuproxy.service.config import Config, parse_config
from immuproxy.service.connections import CannotOpenError, open_server
from immuproxy.service.edge_process import edge
from immuproxy.service.listeners import CONSOLE, EDGE
from immuproxy.service.office import office
from immuproxy.store import embedded
from immuproxy.telemetry import logs
from immuproxy.values import plain_files

log = structlog.get_logger("immuproxy")

FAILED = 1
"""The status of a process that could not do its work."""

LOOKED = 1.0
"""Seconds between two looks at the configuration file, as of those who follow it."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds until a process that fails again and again is replaced once more: twice as many each time, up to the second
number.  The first time it is replaced at once.
"""

HEALTHY = 60.0
"""Seconds of life after which a process has not failed again, but for the first time."""

_READY, _PROBLEM = b"ready\n", b"problem "
_ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
_COMMAND = Path("/proc/self/comm")
_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")

Opened = Callable[[Start, asyncio.Event], AbstractAsyncContextManager[None]]
"""What a process serves; the event is set where all files are to be read again at once."""


def cores() -> int:
    """How many of them the process may use, by its affinity and by the share of its control group."""
    usable = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):  # no such group, or "max"
        share, period = _CPU_MAX.read_text().split()
        usable = min(usable, math.ceil(int(share) / int(period)))
    return max(1, usable)


@dataclass(slots=True, kw_only=True, eq=False)
class _Place:
    """Where one process stands, and after it the one that replaces it.

    ``sockets`` are the listeners that it needs.  ``line`` leads to the process: it says there that it is ready or what
    keeps it from that, and it ends when the other side is closed, so also with the parent.  ``due``: when to begin.
    """

    name: str
    opened: Opened
    sockets: Sequence[str] = ()
    process: int = 0
    line: socket.socket | None = None
    said: bytes = b""
    began: float = 0.0
    due: float | None = None
    replaced: int = 0
    failures: int = 0

    @property
    def is_ready(self) -> bool:
        return _READY in self.said

    @property
    def problem(self) -> str:
        """What it said that keeps it from its work."""
        return self.said.partition(_PROBLEM)[2].decode()


class _Latest:
    """The newest good version of the configuration file, for those who begin later than the others."""

    def __init__(self, path: Path, config: Config) -> None:
        self.config = config
        self._path = path
        self._seen = config.digest
        self._next = 0.0

    def look(self, *, now: bool = False) -> None:
        """Read the file if it changed; what is wrong with it those say who follow it."""
        if not now and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LOOKED
        try:
            self._look()
        except (OSError, DocumentErrors):
            pass
        except Exception:
            log.exception("a file could not be looked at")

    def _look(self) -> None:
        content = plain_files.read(self._path, MAX_BYTES)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if digest != self._seen:
            self._seen = digest
            self.config = parse_config(content, str(self._path))
            logs.configure(level=self.config.log.level, form=self.config.log.format)


@dataclass(slots=True, eq=False)
class _Parent:
    start: Start
    latest: _Latest
    keepers: Sequence[_Place]
    edges: Sequence[_Place]
    offices: Sequence[_Place]
    wake: tuple[socket.socket, socket.socket] = field(init=False)
    stopping: bool = False
    has_served: bool = False

    @property
    def places(self) -> Sequence[_Place]:
        return *self.keepers, *self.edges, *self.offices

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM.  Raises `CannotOpenError` where a process cannot begin."""
        self._watch_signals()
        try:
            for group in (self.keepers, self.edges, self.offices):
                self._begin(group)
            if not self.stopping:
                self.has_served = True
                say_ready(self.start.sockets)
            self._turn_until(lambda: False)
            say_stopping()
        finally:
            self._end()

    def _begin(self, group: Sequence[_Place]) -> None:
        """Return when all of the group are ready, as others may need them."""
        if not self.stopping:
            for place in group:
                self._fork(place)
        self._turn_until(lambda: all(place.is_ready for place in group))

    def _end(self) -> None:
        """Clients' requests first; what they need last."""
        self.stopping = True
        self.start.sockets.close(EDGE)
        self._end_all(self.edges)
        self.start.sockets.close(CONSOLE)
        self._end_all(self.offices)
        self._end_all(self.keepers)

    def _end_all(self, group: Sequence[_Place]) -> None:
        for place in group:
            if place.process:
                os.kill(place.process, signal.SIGTERM)
        while any(place.process for place in group):
            self._turn()

    def _turn_until(self, done: Callable[[], bool]) -> None:
        while not done() and not self.stopping:
            self._turn()

    def _turn(self) -> None:
        """Wait for something to do, and do it."""
        lines = {place.line: place for place in self.places if place.line is not None}
        ready, _, _ = select.select([self.wake[0], *lines], [], [], self._rest())
        for line in ready:
            if line in lines:
                self._hear(lines[line])
        if self.wake[0] in ready:
            self._obey(self.wake[0].recv(1024))
        self._reap()
        self.latest.look()
        for place in self._missing():
            if place.due is not None and place.due <= time.monotonic():
                self._replace(place)

    def _missing(self) -> Sequence[_Place]:
        """Where a process is to begin."""
        return [place for place in self.places if place.due is not None and not self.stopping]

    def _rest(self) -> float:
        """Seconds until there is something to do, unless something happens."""
        dues = [place.due - time.monotonic() for place in self._missing() if place.due is not None]
        return max(0.0, min([LOOKED, *dues]))

    def _obey(self, signals: bytes) -> None:
        if {signal.SIGINT, signal.SIGTERM} & set(signals):
            self.stopping = True
        if signal.SIGHUP in signals:
            self.latest.look(now=True)
            for place in self.places:
                if place.process:
                    os.kill(place.process, signal.SIGHUP)

    @staticmethod
    def _hear(place: _Place) -> None:
        """What a process says; where it has closed the line it ends, or has ended."""
        said = b""
        with suppress(OSError):
            said = place.line.recv(65_536) if place.line else b""
        place.said += said
        if not said and place.line is not None:
            place.line.close()
            place.line = None

    def _reap(self) -> None:
        """Of all that ended: as the first process of a container this one inherits those of others, too."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                for place in self.places:
                    if place.process == ended[0]:
                        self._ended(place, os.waitstatus_to_exitcode(ended[1]))

    def _ended(self, place: _Place, status: int) -> None:
        """A process is gone: it was to end, or the proxy cannot begin without it, or another one takes its place."""
        process, place.process = place.process, 0
        while place.line is not None:
            self._hear(place)
        how = _how(status)
        if self.stopping:
            if status and self.has_served:
                log.error("a process ended before it had finished", ended=place.name, pid=process, how=how)
            return
        if not self.has_served:
            raise CannotOpenError(place.problem or f"{place.name} ended {how} before it was ready")
        pause = self._pause(place)
        place.due = time.monotonic() + pause
        said = {"problem": place.problem} if place.problem else {}
        log.error("a process ended and is replaced", ended=place.name, pid=process, how=how, after=pause, **said)

    @staticmethod
    def _pause(place: _Place) -> float:
        """Seconds until it is replaced."""
        if time.monotonic() - place.began > HEALTHY:
            place.failures = 0
        place.failures += 1
        place.replaced += 1
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(place.failures - 2, 10)) if place.failures > 1 else 0.0

    def _replace(self, place: _Place) -> None:
        try:
            self._fork(place)
        except OSError as error:  # the system has no room for another process
            log.error("a process cannot be replaced yet", ended=place.name, reason=error.strerror)  # noqa: TRY400  # said in full
            place.due = time.monotonic() + FIRST_PAUSE

    def _fork(self, place: _Place) -> None:
        """Begin a process there; no signal that is for the one may come to the other."""
        ours, theirs = socket.socketpair()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ASKED)
        try:
            process = os.fork()
            if not process:
                ours.close()
                self._be(place, theirs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        ours.setblocking(False)
        place.process, place.line = process, ours
        place.said, place.began, place.due = b"", time.monotonic(), None

    def _be(self, place: _Place, line: socket.socket) -> NoReturn:
        """Do the work of a process, and end it."""
        status = FAILED
        try:
            self._forget(place)
            structlog.contextvars.bind_contextvars(process=place.name)
            begins = replace(self.start, latest=self.latest.config, process=place.name, replaced=place.replaced)
            status = _served(partial(place.opened, begins), line)
        except BaseException:
            log.exception("a process failed")
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _forget(self, place: _Place) -> None:
        """What a fork has of its parent and must not have: its signals, its lines to others, sockets that others need.

        Ctrl-C reaches all processes of a terminal; only the parent knows in which order they are to end.
        """
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKED)
        for other in (*self.wake, *(one.line for one in self.places if one.line is not None)):
            other.close()
        self.start.sockets.close(*{EDGE, CONSOLE}.difference(place.sockets))
        random.seed()
        with suppress(OSError):
            _COMMAND.write_text(place.name)  # as ps and top show it

    def _watch_signals(self) -> None:
        """Each signal is a byte to be read, so that none comes in the middle of something."""
        self.wake = socket.socketpair()
        for end in self.wake:
            end.setblocking(False)
        signal.set_wakeup_fd(self.wake[1].fileno(), warn_on_full_buffer=False)
        for number in _ASKED:
            signal.signal(number, _noticed)


def _how(status: int) -> str:
    """How a process ended; ``status`` as of `os.waitstatus_to_exitcode`."""
    if status >= 0:
        return f"with status {status}"
    try:
        return f"by {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"


def _noticed(_number: int, _frame: object) -> None:
    """It is in the buffer."""


def _served(opened: Callable[[asyncio.Event], AbstractAsyncContextManager[None]], line: socket.socket) -> int:
    """The status of a process that has served until it was stopped."""

    async def serve() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(line)
            stop.set()

        loop.add_reader(line, ended)
        await until_stopped(opened, stop, ready=lambda: line.sendall(_READY))

    try:
        asyncio.run(serve())
    except CannotOpenError as error:
        line.sendall(_PROBLEM + str(error).encode())
        return FAILED
    return 0


def serve(start: Start) -> None:
    """Serve with an office and as many edges as are configured, until SIGINT or SIGTERM.  Raises `CannotOpenError`."""
    config = start.config
    names = [f"edge-{number}" for number in range(1, 1 + (config.edge.workers or cores()))]
    wires = Wires.open(names)
    redis = [_Place(name="redis", opened=_redis)] if config.redis.embedded is not None else []
    edges = [_Place(name=name, opened=partial(edge, wires), sockets=(EDGE,)) for name in names]
    offices = [_Place(name="office", opened=partial(office, wires), sockets=(CONSOLE,))]
    _Parent(start, _Latest(start.path, config), redis, edges, offices).run()


@asynccontextmanager
async def _redis(start: Start, _reload: asyncio.Event) -> AsyncIterator[None]:
    """The embedded Redis: a process of its own keeps it, so that it outlives all others."""
    async with AsyncExitStack() as stack:
        if start.config.redis.embedded is not None:
            await stack.enter_async_context(open_server(start.config.redis.embedded, embedded.running))
        yield
