"""The index as a file (or in memory), the thread that writes it, and the thread that asks it.

It may be thrown away at any time, and is when it is damaged, was written by another version, does not fit the stream,
or its file was taken away: then a new one takes the file's name.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from immuproxy.audit import conditions, schema
from immuproxy.audit.writing import Writer

MEMORY_BYTES = 256 << 20
"""How large an index in memory may become: some 400,000 events, the newest."""

OPENING = 2.0
"""Seconds for which a question waits until the index has been opened."""

LOG_BYTES = 16 << 20
"""What the write-ahead log is cut down to once nobody reads what it had to keep."""

_CACHE_KIB = 64 << 10
_PAGE_BYTES = 4_096
_BUSY = 5.0
"""Seconds for which a file is waited for that another program has locked."""

_NAME = "audit.sqlite3"
_LOCK = "lock"
_FILES = (_NAME, f"{_NAME}-wal", f"{_NAME}-shm", _LOCK)
_REMOVED = (_NAME, f"{_NAME}-wal", f"{_NAME}-shm", f"{_NAME}-journal")
"""What SQLite makes.  The others say nothing without the first one, so that one goes first."""

_NO_ROOM = 16 * _PAGE_BYTES
"""A disk with less room than that is full: SQLite makes files of this size, and calls what happens an I/O error."""

_NICENESS = 10

T = TypeVar("T")


class IndexDamagedError(Exception):
    """There is no index to ask at this moment: it is not open yet, or cannot be read, or another one is begun."""


class IndexFullError(IndexDamagedError):
    """There is no room for more, or no way to write it now; what was to be written was not, and can be tried again.

    Where not even an empty index can be begun there is none to ask.
    """


def _nobody(_: str) -> None:
    """Nobody wants to be told."""


class Index:
    """One index.  Open it with `open`; every question is a function of a connection, every change one of a `Writer`."""

    def __init__(
        self, folder: Path | None, *, told: Callable[[str], None] = _nobody, memory_bytes: int = MEMORY_BYTES
    ) -> None:
        """``folder`` is made where it is missing; None keeps all in memory.  ``told`` hears why one is begun anew."""
        self._folder = folder
        self._told = told
        self._memory_pages = memory_bytes // _PAGE_BYTES
        self._why_in_memory = "" if folder else "audit.index names no folder"
        self._writing = ThreadPoolExecutor(1, "audit-index", _stand_back)
        # One: however many search, they take one processor at most, and pulls and pushes have the others.
        self._reading = ThreadPoolExecutor(1, "audit-search", _stand_back)
        self._opened = asyncio.Event()
        self._lock: int | None = None
        self._connection: sqlite3.Connection | None = None
        self._writer: Writer | None = None
        self._why_none = "it is not open"
        self._files: list[int | None] = []
        self._asked: sqlite3.Connection | None = None
        self._asked_of = 0
        self.begun = 0
        """How many indexes there have been; what was known of an earlier one says nothing of this one."""

    @property
    def in_memory(self) -> bool:
        """Whether it is lost with the process, and bounded."""
        return self._folder is None

    @property
    def place(self) -> str:
        """Where it is kept, in words; known once it is open."""
        if self._folder is not None:
            return f"in {self._folder}"
        most = self._memory_pages * _PAGE_BYTES >> 20
        return f"in memory, at most {most} MiB: the newest events only, read anew at each start ({self._why_in_memory})"

    async def open(self) -> None:
        """Go on with the index that is there, or begin one; in memory where the folder cannot be used.

        Questions wait for it; a second time it does nothing.
        """
        if not self._opened.is_set():
            await self._in(self._writing, self._open)
            self._opened.set()

    async def close(self) -> None:
        """Close the file; what was not committed is lost, and taken again at the next start."""
        await self._in(self._reading, self._close_reader)  # the last one to close the file empties its log into it
        await self._in(self._writing, self._close)
        self._reading.shutdown(wait=False)
        self._writing.shutdown(wait=False)

    async def read(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        """Ask in a thread, of one moment.

        Raises `IndexDamagedError` where there is no answer, and the index is built anew; `IndexFullError` where that
        cannot be.
        """
        try:
            async with asyncio.timeout(OPENING):
                await self._opened.wait()
        except TimeoutError:
            raise IndexDamagedError("it is still being opened") from None
        if self.in_memory:
            return await self._in(self._writing, lambda: self._answered(ask, self._own))
        return await self._in(self._reading, lambda: self._answered(ask, self._reader))

    async def write(self, work: Callable[[Writer], T], *, commit: bool = True) -> T:
        """Change the index in the writer's thread.

        What is not to be committed yet goes with the next that is; in memory everything is.  Raises `IndexFullError`
        and `IndexDamagedError`; then nothing since the last commit was written.
        """
        return await self._in(self._writing, lambda: self._written(work, commit=commit))

    async def is_half_full(self) -> bool:
        """Whether an index in memory has used up half of its bound."""
        return self.in_memory and await self.write(Writer.pages, commit=False) > self._memory_pages // 2

    async def begin_anew(self, reason: str) -> None:
        """Throw the index away.  Raises `IndexFullError`."""
        await self._in(self._writing, lambda: self._begin_anew(reason))

    async def look_after(self) -> None:
        """Begin anew where its files are not those any more that are written to: removed, or replaced by others.

        Raises `IndexFullError`.
        """
        await self._in(self._writing, self._look_after)

    @staticmethod
    async def _in(pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work)

    # In the threads ------------------------------------------------------------------------------------------------

    def _answered(self, ask: Callable[[sqlite3.Connection], T], connected: Callable[[], sqlite3.Connection]) -> T:
        begun = self.begun
        try:
            return ask_at_once(connected(), ask)
        except OSError as error:  # the file was taken away
            raise IndexDamagedError(self._said(error)) from error
        except sqlite3.DatabaseError as error:
            if _is_damage(error):
                self._writing.submit(self._begin_anew, f"it is damaged ({error})", begun)
            elif not _is_refusal(error):
                raise
            raise IndexDamagedError(self._said(error)) from error

    def _written(self, work: Callable[[Writer], T], *, commit: bool) -> T:
        writer = self._writer or self._begin()
        try:
            result = work(writer)
            if commit or self.in_memory:
                writer.commit()
        except BaseException as error:
            if _is_damage(error):
                self._begin_anew(f"it is damaged ({error})")
                raise IndexDamagedError(str(error)) from error
            writer.roll_back()
            if _is_refusal(error):
                raise IndexFullError(self._said(error)) from error
            raise
        return result

    def _own(self) -> sqlite3.Connection:
        if self._connection is None:
            raise IndexFullError(self._why_none)
        return self._connection

    def _reader(self) -> sqlite3.Connection:
        self._own()
        if self._folder is None:
            raise IndexDamagedError("it is in memory from now on")
        if self._asked is None or self._asked_of != self.begun:
            self._close_reader()
            begun = self.begun
            self._asked, self._asked_of = _reading(self._path), begun
        return self._asked

    def _open(self) -> None:
        try:
            self._claim()
            if not self._go_on():
                self._begin()
        except (OSError, sqlite3.DatabaseError, IndexFullError) as error:
            self._leave(str(error))
            with suppress(IndexFullError):  # then there is none, and who asks hears why
                self._begin()

    def _claim(self) -> None:
        """Take the folder for this process alone; raises `BlockingIOError` where another one has it.

        Until then what is held is not let go, be it that its file is there no more.
        """
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = _locked(self._folder / _LOCK, self._lock)
            if lock != self._lock:
                self._let_go()
                self._lock = lock

    def _leave(self, why: str) -> None:
        """From now on all is in memory."""
        self._close()
        self._folder, self._why_in_memory = None, why
        self._reading.submit(self._close_reader)  # nobody asks it any more

    def _go_on(self) -> bool:
        """With the index that is there; what merely cannot be used now is raised, and left as it is."""
        if self._folder is None or not self._path.exists():
            return False
        try:
            with _kept(_connected(self._path)) as connection:
                if _is_ours(connection):
                    _configure(connection)
                    Writer(connection).state()
                    self._use(connection)
                    return True
                connection.close()
        except sqlite3.DatabaseError as error:
            if _is_refusal(error):
                raise IndexFullError(self._said(error)) from error
        self._told("the audit's index is built anew: its file is damaged or of another version")
        return False

    def _look_after(self) -> None:
        try:
            files = _inodes(self._folder)
        except OSError as error:
            raise IndexFullError(self._said(error)) from error
        if self._writer is not None and files != self._files:
            self._begin_anew("its file was removed or replaced")

    def _begin_anew(self, reason: str, begun: int | None = None) -> None:
        """``begun``: the one that is meant; another one is left alone."""
        if begun is None or begun == self.begun:
            self._told(f"the audit's index is built anew: {reason}")
            self._begin()

    def _begin(self) -> Writer:
        """Until there is a new one the old one is read.  Raises `IndexFullError`.

        In memory where the folder is another process's by now: it was emptied, and that one came first.
        """
        try:
            self._claim_or_leave()
            with _kept(self._created()) as connection:
                return self._use(connection)
        except (OSError, sqlite3.DatabaseError) as error:
            self._why_none = self._said(error)
            self._close()
            raise IndexFullError(self._why_none) from error

    def _claim_or_leave(self) -> None:
        try:
            self._claim()
        except BlockingIOError as error:
            self._leave(str(error))
            self._told(f"the audit's index is kept {self.place}")

    def _created(self) -> sqlite3.Connection:
        if sqlite3.sqlite_version_info < schema.LEAST_SQLITE:
            least = ".".join(map(str, schema.LEAST_SQLITE))
            raise sqlite3.NotSupportedError(f"SQLite {sqlite3.sqlite_version} is too old: {least} is needed")
        where: Path | str = ":memory:"
        if self._folder is not None:
            where = self._path
            for name in _REMOVED:  # whoever has it open can go on reading it
                (self._folder / name).unlink(missing_ok=True)
            os.close(os.open(where, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # what SQLite puts beside it, too
        with _kept(_connected(where)) as connection:
            _configure(connection)
            if self._folder is None:
                connection.execute(f"PRAGMA max_page_count = {self._memory_pages}")
                conditions.prepare(connection)
            connection.executescript(schema.TABLES)
            return connection

    def _use(self, connection: sqlite3.Connection) -> Writer:
        files, writer = _inodes(self._folder), Writer(connection)
        old, self._connection, self._writer, self._files = self._connection, connection, writer, files
        self.begun += 1
        if old is not None:
            old.close()
        return writer

    @property
    def _path(self) -> Path:
        return (self._folder or Path()) / _NAME

    def _said(self, error: BaseException) -> str:
        """Why the index cannot be written to or read."""
        if self._folder is None:
            return str(error)
        said = getattr(error, "strerror", None) or str(error)
        with suppress(OSError):
            if _code(error) == sqlite3.SQLITE_FULL or shutil.disk_usage(self._folder).free < _NO_ROOM:
                said = "no space left on the disk"
        return f"{self._folder}: {said}"

    def _close(self) -> None:
        connection, self._connection, self._writer = self._connection, None, None
        if connection is not None:
            connection.close()
        self._let_go()

    def _let_go(self) -> None:
        """Others may use the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _close_reader(self) -> None:
        connection, self._asked = self._asked, None
        if connection is not None:
            connection.close()


def ask_at_once(connection: sqlite3.Connection, question: Callable[[sqlite3.Connection], T]) -> T:
    """The answer as of one moment, whatever is written meanwhile."""
    connection.execute("BEGIN")
    try:
        return question(connection)
    finally:
        connection.rollback()


def look_in(folder: Path) -> sqlite3.Connection | None:
    """The index in a folder, for asking only, while another process writes it; None where there is none to be read.

    Each question is to be a transaction of its own, and short: the write-ahead log grows for as long as it lasts.
    """
    with suppress(OSError, sqlite3.DatabaseError):
        return _reading(folder / _NAME)
    return None


def _stand_back() -> None:
    """Where pulls and pushes want the processor, too, they get less of it (Linux has it by thread)."""
    with suppress(OSError):
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _locked(path: Path, held: int | None) -> int:
    """The lock of a folder, open; what is ``held`` where it is that one."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if held is not None and os.path.sameopenfile(lock, held):
        os.close(lock)
        return held
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            raise BlockingIOError(error.errno, f"another program uses it: {path.parent}") from error
        raise
    return lock


def _reading(path: Path) -> sqlite3.Connection:
    """Raises `OSError` where it is none of ours, or was replaced: a new log says nothing of an old file."""
    file = path.stat().st_ino
    with _kept(_connected(f"{path.absolute().as_uri()}?mode=ro")) as connection:
        conditions.prepare(connection)
        if not _is_ours(connection) or path.stat().st_ino != file:  # having opened the log, too
            raise FileNotFoundError(errno.ENOENT, "it is of another version, or was replaced")
        return connection


def _connected(where: Path | str) -> sqlite3.Connection:
    return sqlite3.connect(where, timeout=_BUSY, uri=True, isolation_level=None, check_same_thread=False)


@contextmanager
def _kept(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Closed where it turns out to be of no use."""
    try:
        yield connection
    except BaseException:
        connection.close()
        raise


def _is_ours(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA user_version").fetchone()[0] == schema.VERSION)


def _configure(connection: sqlite3.Connection) -> None:
    """A lost commit costs nothing, a torn one would: so the log is kept in order, and not waited for at each commit."""
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    connection.execute("PRAGMA synchronous = normal")
    connection.execute("PRAGMA temp_store = memory")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")


def _inodes(folder: Path | None) -> list[int | None]:
    """Which files have the names of an index; None where none has."""
    return [_inode(folder / name) for name in _FILES] if folder else []


def _inode(path: Path) -> int | None:
    with suppress(FileNotFoundError, NotADirectoryError):
        return path.stat().st_ino
    return None


def _is_damage(error: BaseException) -> bool:
    return _code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _is_refusal(error: BaseException) -> bool:
    """Whether the system or another program does not let us do it for now, while the file is as it should be."""
    return isinstance(error, sqlite3.OperationalError) and _code(error) != sqlite3.SQLITE_ERROR


def _code(error: BaseException) -> int:
    """The primary result code of SQLite."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
