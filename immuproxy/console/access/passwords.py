"""Passwords, checked against the users file in force, which is read again when it changes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import bcrypt
import structlog

from immuproxy.console.access.users import MAX_BYTES, SHORTEST_COST, Users, UsersFileError, read_users
from immuproxy.values import plain_files

log = structlog.get_logger("immuproxy.access")

INTERVAL = 1.0
"""Seconds between two looks at the file."""

AT_ONCE = 2
"""Passwords checked at the same time; each keeps one core busy for a quarter of a second or so."""

MOST_WAITING = 40
"""More have to come again."""

LONGEST = 72
"""Bytes of a password: bcrypt looks at no more, so a longer one could be mistaken for another."""


class BusyError(Exception):
    """Too many passwords are being checked."""


class Passwords:
    """The users file."""

    def __init__(self, path: Path, users: Users) -> None:
        """``users``: what was read from ``path``."""
        self._path = path
        self._users = users
        self._problem = ""
        self._running = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    @classmethod
    async def read(cls, path: Path) -> Passwords:
        """Read the file at the start; raises `UsersFileError`, also where it cannot be read at all."""
        users = await _read(path)
        _warn(users)
        return cls(path, users)

    @property
    def users(self) -> Users:
        """The version in force."""
        return self._users

    async def follow(self) -> None:
        """Look at the file for ever; cancel it to stop."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self.look()

    async def look(self) -> None:
        """Read the file again.  One that is wrong, or gone, is told once, and the users before it stay."""
        try:
            users = await _read(self._path)
        except UsersFileError as error:
            if str(error) != self._problem:
                log.error("the users file is not in force", problem=str(error))  # noqa: TRY400  # said in full
            self._problem = str(error)
            return
        self._problem = ""
        if users != self._users:
            log.info("users read", file=self._path.name, users=len(users.hashes))
            self._users = users
            _warn(users)

    async def check(self, name: str, password: str) -> str:
        """The hash of the user's line where the password is right, else nothing; raises `BusyError`.

        It takes as long for a name that nobody has, and for a password that cannot be right.
        """
        users = self._users
        given = password.encode(errors="surrogateescape")
        possible = 0 < len(given) <= LONGEST and b"\0" not in given and name in users
        if self._waiting >= MOST_WAITING:
            raise BusyError
        self._waiting += 1
        try:
            async with self._running:
                right = await asyncio.to_thread(bcrypt.checkpw, given if possible else b"-", users.hash_for(name))
        finally:
            self._waiting -= 1
        return users.line(name) if right and possible else ""


async def _read(path: Path) -> Users:
    try:
        data = await asyncio.to_thread(plain_files.read, path, MAX_BYTES)
    except OSError as error:
        raise UsersFileError(f"console.auth.users_file: cannot read {path}: {error.strerror}") from error
    return read_users(data, str(path))


def _warn(users: Users) -> None:
    if not users.hashes:
        log.warning("the users file is empty, so nobody can log in")
    if users.quick:
        log.warning(
            "whoever gets the users file guesses passwords of a low bcrypt cost quickly; write them anew",
            command="htpasswd -B -C 12 FILE NAME",
            recommended=SHORTEST_COST,
            users=", ".join(users.quick[:10]),
        )
