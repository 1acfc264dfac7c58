"""HTTP Basic (RFC 7617), for ``curl`` and programs that read the JSON API."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

from cachetools import LRUCache

MOST = 1_000
"""Credentials remembered by one process."""


def read_basic(authorization: str) -> tuple[str, str] | None:
    """Name and password of an ``Authorization`` header; None where it is not Basic, or not readable."""
    scheme, _, credential = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(credential.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    name, colon, password = decoded.partition(":")
    return (name, password) if colon and name else None


class Remembered:
    """Credentials that were right a while ago, so that a program that asks often costs one slow check, and one event.

    Only a keyed hash is kept, under a key that never leaves the process.  The line of the users file is part of it: a
    changed password is forgotten with the old line.  So is the network: the same credential from elsewhere is new.
    """

    def __init__(self) -> None:
        """Nothing is remembered yet."""
        self._key = secrets.token_bytes(32)
        self._known: LRUCache[bytes, bool] = LRUCache(MOST)

    def knows(self, *parts: str) -> bool:
        """Whether these were right."""
        return self._known.get(self._name(parts), False)

    def add(self, *parts: str) -> None:
        """These are right."""
        self._known[self._name(parts)] = True

    def _name(self, parts: tuple[str, ...]) -> bytes:
        hashed = b"".join(hashlib.sha256(part.encode(errors="surrogateescape")).digest() for part in parts)
        return hmac.new(self._key, hashed, "sha256").digest()
