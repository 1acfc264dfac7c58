"""Who is logged in to the console: one key for each session.

So a log-in holds on every proxy of this ledger, and a log-out ends it on all of them.

The name of a key is a hash of the session's secret: whoever reads the keys of Redis, or a copy of them, has no cookie.
Every method raises `immuproxy.store.redis.LedgerUnavailableError` when Redis does not answer.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from typing import Any

from immuproxy.store import keys
from immuproxy.store.redis import Store

_SECRET = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
SLACK_MS = 60_000
"""A session's end is moved only by more than this: looking at pages should not write all the time."""


@dataclass(frozen=True, slots=True)
class Session:
    """A log-in.

    ``user`` as in the users file, ``line`` what stood behind that name there (a hash of it), ``since`` in ms.
    """

    user: str
    line: str
    since: int


class Sessions:
    """The sessions of all proxies on this ledger."""

    def __init__(self, store: Store, *, idle_ms: int, longest_ms: int) -> None:
        """A session ends ``idle_ms`` after its last use or ``longest_ms`` after it began, whatever comes first."""
        self._store = store
        self._idle = idle_ms
        self._longest = longest_ms

    async def begin(self, session: Session) -> str:
        """Keep a session under a new secret, and return that: 43 characters, 256 random bits."""
        secret = secrets.token_urlsafe(32)
        value = json.dumps({"user": session.user, "line": session.line, "since": session.since})
        lasts = min(self._idle, self._longest)
        await self._store.do(self._store.client.set(_key(secret), value, px=lasts, nx=True))
        return secret

    async def find(self, secret: str, now: int, *, used: bool = True) -> Session | None:
        """The session of a secret, if it has not ended; ``used`` moves its end.  What is no secret is not looked up."""
        if not _SECRET.fullmatch(secret):
            return None
        found, left = await self._read(_key(secret))
        if found is None:
            return None
        session = Session(**json.loads(found))
        rest = session.since + self._longest - now
        if rest <= 0:
            await self.end(secret)
            return None
        lasts = min(self._idle, rest)
        if used and lasts - left > SLACK_MS:
            await self._store.do(self._store.client.pexpire(_key(secret), lasts))
        return session

    async def _read(self, key: str) -> tuple[bytes | None, int]:
        pipeline = self._store.client.pipeline(transaction=False)
        pipeline.get(key)
        pipeline.pttl(key)
        answer: list[Any] = await self._store.do(pipeline.execute())
        found, left = answer
        return found, int(left)

    async def end(self, secret: str) -> bool:
        """End a session; false when it had ended already."""
        if not _SECRET.fullmatch(secret):
            return False
        return bool(await self._store.do(self._store.client.delete(_key(secret))))


def _key(secret: str) -> str:
    return keys.session(hashlib.sha256(secret.encode()).hexdigest())
