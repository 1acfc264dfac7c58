"""The index as a file (or in memory), its writer's thread, and the threads that ask it.

It may be thrown away at any time, and is when it is damaged, was written by another version, or does not fit the
stream: then a new one is begun under another name, so that whoever still reads the old one is not disturbed.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from immuproxy.audit import conditions, schema
from immuproxy.audit.writing import Writer

READERS = 2
"""Searches that run at once; others wait for them."""

MEMORY_BYTES = 256 << 20
"""How large an index in memory may become: some 400,000 events, the newest."""

OPENING = 2.0
"""Seconds for which a question waits until the index has been opened."""

_CACHE_KIB = 64 << 10
_PAGE_BYTES = 4_096
_BUSY = 5.0
"""Seconds for which a file is waited for that another program has locked."""

_NAME = "audit-{}.sqlite3"
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_REFUSED = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
    }
)
"""What the system or another program does not let us do for now, while the file is as it should be."""

T = TypeVar("T")


class IndexFullError(Exception):
    """There is no room for more, or no way to write it now; what was to be written was not, and can be tried again."""


class IndexDamagedError(Exception):
    """There is no index to ask at this moment: it is not open yet, or cannot be read, or another one is begun."""


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
        self._writing = ThreadPoolExecutor(1, "audit-index")
        self._reading = ThreadPoolExecutor(READERS, "audit-search")
        self._opened = asyncio.Event()
        self._asking = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._lock: int | None = None
        self._number = 0
        self._connection: sqlite3.Connection | None = None
        self._writer: Writer | None = None

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
        await asyncio.to_thread(self._close_readers)  # the last one to close the file empties its log into it
        await self._in(self._writing, self._close)
        await asyncio.to_thread(self._writing.shutdown)

    async def read(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        """Ask in a thread, of one moment.

        Raises `IndexDamagedError` where there is no answer, and the index is built anew.
        """
        await self._until_open()
        if self.in_memory:
            return await self._in(self._writing, lambda: self._answered(ask, *self._own()))
        return await self._in(self._reading, lambda: self._answered(ask, *self._found()))

    async def write(self, work: Callable[[Writer], T], *, commit: bool = True) -> T:
        """Change the index in the writer's thread.

        What is not to be committed yet goes with the next that is; in memory everything is.  Raises `IndexFullError`
        and `IndexDamagedError`; then nothing since the last commit was written.
        """
        return await self._in(self._writing, lambda: self._written(work, commit=commit or self.in_memory))

    async def is_half_full(self) -> bool:
        """Whether an index in memory has used up half of its bound."""
        return self.in_memory and await self.write(Writer.pages, commit=False) > self._memory_pages // 2

    async def begin_anew(self, reason: str) -> None:
        """Throw the index away."""
        await self._in(self._writing, lambda: self._begin_anew(reason))

    async def _until_open(self) -> None:
        try:
            async with asyncio.timeout(OPENING):
                await self._opened.wait()
        except TimeoutError:
            raise IndexDamagedError("it is still being opened") from None

    @staticmethod
    async def _in(pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work)

    # In the threads ------------------------------------------------------------------------------------------------

    def _answered(self, ask: Callable[[sqlite3.Connection], T], number: int, connection: sqlite3.Connection) -> T:
        try:
            connection.execute("BEGIN")
            try:
                return ask(connection)
            finally:
                connection.rollback()
        except sqlite3.DatabaseError as error:
            if _code(error) in _DAMAGED:
                self._writing.submit(self._begin_anew, f"it is damaged ({error})", number)
            elif _code(error) not in _REFUSED:
                raise
            raise IndexDamagedError(str(error)) from error

    def _written(self, work: Callable[[Writer], T], *, commit: bool) -> T:
        if self._writer is None:
            self._begin_anew("", told=False)
        if self._writer is None:
            raise IndexFullError("the index could not be begun")
        try:
            result = work(self._writer)
            if commit:
                self._writer.commit()
        except sqlite3.DatabaseError as error:
            if _code(error) in _DAMAGED:
                self._begin_anew(f"it is damaged ({error})")
                raise IndexDamagedError(str(error)) from error
            self._writer.roll_back()
            if _code(error) in _REFUSED:
                raise IndexFullError(str(error)) from error
            raise
        except BaseException:
            self._writer.roll_back()
            raise
        return result

    def _own(self) -> tuple[int, sqlite3.Connection]:
        if self._connection is None:
            raise IndexDamagedError("the index could not be begun")
        return self._number, self._connection

    def _found(self) -> tuple[int, sqlite3.Connection]:
        try:
            return self._reader()
        except sqlite3.DatabaseError as error:  # a file that could not be begun, or was taken away
            raise IndexDamagedError(str(error)) from error

    def _reader(self) -> tuple[int, sqlite3.Connection]:
        """This thread's connection to the file of now, and that file's number."""
        number, connection = getattr(self._asking, "open", (-1, None))
        if connection is None or number != self._number:
            if connection is not None:
                self._asking.open = -1, None  # whether or not another one can be opened
                self._readers.remove(connection)
                connection.close()
            number, connection = self._number, _reading(self._path(self._number))
            self._readers.append(connection)
            self._asking.open = number, connection
        return number, connection

    def _open(self) -> None:
        try:
            numbers = self._claim()
        except OSError as error:
            self._let_go()
            self._folder, self._why_in_memory, numbers = None, str(error), []
        if numbers and self._go_on(numbers[-1]):
            return
        self._begin_anew("" if not numbers else "its file is damaged or of another version", told=bool(numbers))

    def _claim(self) -> list[int]:
        """Take the folder for this process alone; the numbers of the files that are there, ascending."""
        if self._folder is None:
            return []
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _numbers(self._folder)

    def _go_on(self, number: int) -> bool:
        self._number = number
        try:
            connection = _writing(self._path(number))
        except sqlite3.DatabaseError:
            return False
        try:
            if _is_ours(connection):
                _configure(connection)
                writer = Writer(connection)
                writer.state()
                self._connection, self._writer = connection, writer
                return True
        except sqlite3.DatabaseError:
            pass
        connection.close()
        return False

    def _begin_anew(self, reason: str, number: int | None = None, *, told: bool = True) -> None:
        """``number``: of the file that is meant; another one is left alone."""
        if number is not None and number != self._number:
            return
        if told:
            self._told(f"the audit's index is built anew: {reason}")
        self._forget_connection()
        try:
            connection = self._created(self._number + 1)
        except (OSError, sqlite3.DatabaseError) as error:
            self._told(f"the audit's index cannot be begun: {error}")
            return
        self._number, self._connection, self._writer = self._number + 1, connection, Writer(connection)
        self._remove_others()

    def _created(self, number: int) -> sqlite3.Connection:
        where = ":memory:" if self._folder is None else self._path(number)
        if isinstance(where, Path):  # for this user alone; what SQLite makes beside it gets the same mode
            os.close(os.open(where, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = _writing(where)
        try:
            _configure(connection)
            if self._folder is None:
                connection.execute(f"PRAGMA max_page_count = {self._memory_pages}")
                conditions.prepare(connection)
            connection.executescript(schema.TABLES)
        except BaseException:
            connection.close()
            raise
        return connection

    def _forget_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._writer = None

    def _remove_others(self) -> None:
        """Only now: until there is a new file the old one is read."""
        if self._folder is not None:
            for path in self._folder.glob(_NAME.format("*") + "*"):
                if not path.name.startswith(_NAME.format(self._number)):
                    with suppress(OSError):  # it is not ours to remove, and is not read any more
                        path.unlink()

    def _path(self, number: int) -> Path:
        if self._folder is None:
            raise RuntimeError("an index in memory has no file")
        return self._folder / _NAME.format(number)

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.roll_back()
        self._forget_connection()
        self._let_go()

    def _let_go(self) -> None:
        """Others may use the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _close_readers(self) -> None:
        self._reading.shutdown()
        for connection in self._readers:
            connection.close()


def look_in(folder: Path) -> sqlite3.Connection | None:
    """The index in a folder, for asking only, while another process writes it; None where there is none to be read.

    Each question is to be a transaction of its own, and short: what is being read cannot be tidied up.
    """
    for number in reversed(_numbers(folder)):
        try:
            connection = _reading(folder / _NAME.format(number))
            if _is_ours(connection):
                return connection
            connection.close()
        except sqlite3.DatabaseError:
            continue
    return None


def _numbers(folder: Path) -> list[int]:
    """The numbers of the files in a folder, ascending."""
    names = (path.name.removeprefix("audit-").removesuffix(".sqlite3") for path in folder.glob(_NAME.format("*")))
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def _reading(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
    try:
        conditions.prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _writing(where: Path | str) -> sqlite3.Connection:
    return sqlite3.connect(where, timeout=_BUSY, isolation_level=None, check_same_thread=False)


def _is_ours(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA user_version").fetchone()[0] == schema.VERSION)


def _configure(connection: sqlite3.Connection) -> None:
    """A lost commit costs nothing, a torn one would: so the log is kept in order, and not waited for at each commit."""
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("PRAGMA synchronous = normal")
    connection.execute("PRAGMA temp_store = memory")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")


def _code(error: sqlite3.DatabaseError) -> int:
    """The primary result code."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
