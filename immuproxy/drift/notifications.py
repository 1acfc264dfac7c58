"""The registry's notifications: a hint that something changed, never the truth (H58).

They arrive late, twice, out of order or not at all, before the tag is written, and without a token anybody who reaches
the endpoint can send them.  So a notification only makes the proxy look for itself, one tag after the other and no
faster than the upstream, the ledger or a reader should feel (H86); the sweep finds what they miss.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web

from immuproxy.drift.healer import Healer
from immuproxy.drift.pace import Allowance, RateLimit
from immuproxy.edge.upstream import UpstreamUnavailableError
from immuproxy.ledger.model import TagRecord
from immuproxy.ledger.register import Register
from immuproxy.oci import names
from immuproxy.store.redis import LedgerUnavailableError

log = structlog.get_logger("immuproxy.drift")

PATH = "/notifications"
DELAY = 0.3
"""Seconds between a hint and the look: the registry tells of a push before it has written the tag."""

MAX_BODY = 256 * 1024
"""Bytes of an envelope; a registry sends one event in each, of a few thousand bytes."""

PARSED = 256 * 1024
"""Bytes of envelopes parsed in a second."""

PATIENCE = 10.0
"""Seconds that an envelope may take to arrive."""

MAX_ARRIVING = 16
"""Envelopes that arrive at a time."""

MAX_EVENTS = 100
"""Events read of one envelope."""

MAX_WAITING = 2_000
"""Hints that wait for their turn; the sweep finds what does not fit."""

MOST_TAGS = 100
"""Tags looked at because one digest was deleted."""

READINGS = 200
"""Records read from the ledger in a second; of our own pushes, that is all there is to do."""

RATE = 20
WEIGHED = 64 * 1024
"""Looks at the upstream in a second, however many hints come: anybody may send them.  So many bytes of a manifest count
as one look more.
"""


@dataclass(frozen=True, slots=True)
class Hint:
    """A tag, or every tag that holds a digest, may have changed."""

    repository: str
    tag: str = ""
    digest: str = ""


def read(body: bytes) -> list[Hint]:
    """The hints in an envelope (media types ``…distribution.events.v1+json`` and ``v2``); raises `ValueError`.

    Pulls and mounts change no tag, and what is outside the grammar names none.  Of many events the first count.
    """
    envelope = json.loads(body)
    events = envelope.get("events") if isinstance(envelope, dict) else None
    if not isinstance(events, list):
        raise ValueError("an envelope has a list of events")  # noqa: TRY004  # the document is wrong, not the call
    return list(dict.fromkeys(hint for event in events[:MAX_EVENTS] for hint in _hints(event)))


def _hints(event: Any) -> Iterator[Hint]:
    target = event.get("target") if isinstance(event, dict) else None
    if not isinstance(target, dict) or event.get("action") not in ("push", "delete"):
        return
    repository, tag, digest = (str(target.get(key) or "") for key in ("repository", "tag", "digest"))
    if not names.is_repository(repository):
        return
    if names.is_tag(tag):
        yield Hint(repository, tag=tag, digest=digest if names.is_digest(digest) else "")
    elif event["action"] == "delete" and names.is_digest(digest):
        yield Hint(repository, digest=digest)


class Notifications:
    """Takes hints over HTTP, and follows them one after another."""

    def __init__(self, register: Register, healer: Healer, token: str = "") -> None:
        """What drifted is healed by ``healer``; ``token`` is what a sender must know, if anything."""
        self._register = register
        self._healer = healer
        self._expected = f"Bearer {token}".encode() if token else b""
        self._waiting: dict[Hint, None] = {}
        self._arriving = 0
        self._woken = asyncio.Event()
        self._parsed = Allowance(PARSED, MAX_BODY)
        self._readings, self._looks = RateLimit(READINGS), RateLimit(RATE)

    async def receive(self, request: web.Request) -> web.Response:
        """``POST /notifications``: 202; 401 without the token, 400 for what is no envelope, 413 and 429 for too much.

        A registry tells again what was answered with 429.  Nothing is done before the answer.
        """
        if self._expected and not self._knows_token(request):
            return _error(
                401, "not_allowed", "this needs the token of the notifications", {"WWW-Authenticate": "Bearer"}
            )
        if self._arriving >= MAX_ARRIVING or len(self._waiting) >= MAX_WAITING:
            return _too_many()
        body = await self._arrived(request)
        if body is None:
            return _error(413, "too_large", f"an envelope has at most {MAX_BODY} bytes, and comes soon")
        if not self._parsed.take(len(body)):
            return _too_many()
        try:
            hints = read(body)
        except (ValueError, RecursionError):
            return _error(400, "bad_envelope", "this is no envelope of events")
        self._waiting.update(dict.fromkeys(hints[: MAX_WAITING - len(self._waiting)]))
        self._woken.set()
        return web.Response(status=202)

    async def _arrived(self, request: web.Request) -> bytes | None:
        self._arriving += 1
        try:
            return await _bounded(request)
        finally:
            self._arriving -= 1

    def _knows_token(self, request: web.Request) -> bool:
        told = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        return hmac.compare_digest(told, self._expected)

    async def run(self) -> None:
        """Follow hints for ever; cancel it to stop."""
        while True:
            await self._woken.wait()
            await asyncio.sleep(DELAY)
            self._woken.clear()
            while self._waiting:
                hint = next(iter(self._waiting))
                del self._waiting[hint]
                await self._follow(hint)

    async def _follow(self, hint: Hint) -> None:
        try:
            for tag in await self._tags(hint):
                await self._readings.turn()
                found = await self._register.read(hint.repository, tag)
                if _concerns(hint, found):
                    await self._looks.turn(await self._weight(found))
                    await self._healer.check(found)
        except (LedgerUnavailableError, UpstreamUnavailableError) as error:
            log.warning("hint not followed; the sweep will look", repository=hint.repository, reason=str(error))

    async def _weight(self, found: TagRecord) -> float:
        """What a look costs: a manifest is read and hashed whole."""
        held = found.committed.digest if found.committed else ""
        return 1 + await self._register.stored_size(found.repository, held) / WEIGHED

    async def _tags(self, hint: Hint) -> list[str]:
        if hint.tag:
            return [hint.tag]
        await self._readings.turn()
        return await self._register.holders.of(hint.repository, hint.digest, limit=MOST_TAGS)


def _concerns(hint: Hint, found: TagRecord) -> bool:
    """Whether the upstream may show something else than the tag holds: not where it was told of just that."""
    if found.committed is None:
        return False
    return (found.committed.digest == hint.digest) == (not hint.tag)


async def _bounded(request: web.Request) -> bytes | None:
    """The body; None where it is too large, or does not come soon."""
    if (request.content_length or 0) > MAX_BODY:
        return None
    body = bytearray()
    try:
        async with asyncio.timeout(PATIENCE):
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > MAX_BODY:
                    return None
    except TimeoutError:
        return None
    return bytes(body)


def _too_many() -> web.Response:
    return _error(429, "too_many", "too many hints are waiting", {"Retry-After": "1"})


def _error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status, headers=headers)
