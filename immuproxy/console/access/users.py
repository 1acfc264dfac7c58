"""The users file: one ``name:hash`` a line, as Apache's htpasswd writes it, with bcrypt hashes only.  PURE."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

MAX_BYTES = 1024 * 1024
MAX_NAME = 128
"""Characters of a name."""

LONGEST_COST = 15
"""More would take seconds for each log-in."""

SHORTEST_COST = 10
"""Less is told at the start: whoever gets the file guesses passwords quickly."""

REMEDY = "write the line anew with: htpasswd -B -C 12 FILE NAME"

_BCRYPT = re.compile(r"\$2[aby]\$(?P<cost>[0-9]{2})\$[./A-Za-z0-9]{53}", re.ASCII)
_KINDS = (
    (r"\$apr1\$|\$1\$", "an MD5 hash"),
    (r"\{SHA\}|\{SSHA\}", "a SHA-1 hash"),
    (r"\$5\$|\$6\$", "a SHA-crypt hash"),
    (r"\$argon2", "an Argon2 hash"),
    (r"\$y\$|\$7\$|\$scrypt", "a scrypt hash"),
    (r"\$2[abxy]?\$", "a bcrypt hash that is not whole"),
    (r"[./A-Za-z0-9]{13}$", "a DES-crypt hash or a plain password"),
    (r"\*|!|$", "no hash"),
)


class UsersFileError(Exception):
    """The file cannot be used; the message names each line and says what to do.  It never repeats a hash."""


@dataclass(frozen=True, slots=True)
class Users:
    """Names and hashes of one version of the file."""

    hashes: Mapping[str, bytes] = field(repr=False)

    def __contains__(self, name: object) -> bool:
        """Whether there is such a user."""
        return name in self.hashes

    def line(self, name: str) -> str:
        """A hash of the line of a user, by which a session knows that it is still the same; empty for nobody."""
        found = self.hashes.get(name)
        return hashlib.sha256(name.encode() + b"\0" + found).hexdigest() if found else ""

    def hash_for(self, name: str) -> bytes:
        """The hash to check a password against.

        An unknown name gets somebody else's, always the same, so that it takes as long as a known one whatever the
        costs in the file are; the result must be thrown away then.
        """
        found = self.hashes.get(name)
        if found or not self.hashes:
            return found or _NOBODY
        number = int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8])
        return list(self.hashes.values())[number % len(self.hashes)]

    @property
    def quick(self) -> tuple[str, ...]:
        """Users whose hash has a low cost."""
        return tuple(name for name, found in self.hashes.items() if int(found[4:6]) < SHORTEST_COST)


_NOBODY = b"$2b$12$" + b"." * 53


def read_users(data: bytes, source: str) -> Users:
    """Read a users file; ``source`` is what messages call it.  Raises `UsersFileError` with all that is wrong."""
    if len(data) > MAX_BYTES:
        raise UsersFileError(f"{source}: a users file has at most {MAX_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsersFileError(f"{source}:{line}: this is no UTF-8") from None
    hashes: dict[str, bytes] = {}
    wrong: list[str] = []
    for number, content in _lines(text):
        name, _, hashed = content.partition(":")
        fault = _fault(name, hashed, hashes)
        if fault:
            wrong.append(f"{source}:{number}: {fault}")
        hashes[name] = hashed.encode()
    if wrong:
        raise UsersFileError("\n".join(wrong))
    return Users(hashes)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        kept = line.removesuffix("\r")
        if kept.strip() and not kept.startswith("#"):
            yield number, kept


def _fault(name: str, hashed: str, known: Mapping[str, bytes]) -> str:
    if not name or not hashed:
        return f"this is no line of the form name:hash; {REMEDY}"
    if not name.isprintable() or len(name) > MAX_NAME or name != name.strip():
        return f"a name is at most {MAX_NAME} printable characters, without blanks around it"
    if name in known:
        return f"{name} is there twice; remove one of the lines"
    found = _BCRYPT.fullmatch(hashed)
    if found is None:
        return f"the password of {name} is {_kind(hashed)}, and only bcrypt is accepted; {REMEDY}"
    if not 4 <= int(found["cost"]) <= LONGEST_COST:
        return f"the hash of {name} has the cost {found['cost']}; 4 to {LONGEST_COST} are accepted, 12 is a good one"
    return ""


def _kind(hashed: str) -> str:
    return next((words for pattern, words in _KINDS if re.match(pattern, hashed)), "of an unknown kind")
