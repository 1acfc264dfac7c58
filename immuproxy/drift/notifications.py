"""The registry's notifications: a hint that something changed, never the truth (H58).

They arrive late, twice, out of order or not at all, before the tag is written, and anybody who reaches the endpoint can
send them.  So a notification only makes the proxy look for itself, one tag after the other and no faster than the
upstream should feel; the sweep finds what they miss.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web

from immuproxy.drift.healer import Healer
from immuproxy.drift.pace import Pace
from immuproxy.ledger.redis import LedgerUnavailableError
from immuproxy.ledger.register import Register
from immuproxy.oci import names
from immuproxy.proxy.upstream import UpstreamUnavailableError

log = structlog.get_logger("immuproxy.drift")

PATH = "/notifications"
DELAY = 0.3
"""Seconds between a hint and the look: the registry tells of a push before it has written the tag."""

MAX_WAITING = 10_000
"""Hints that wait for their turn; the sweep finds what does not fit."""

RATE = 20
"""Looks in a second, however many hints come: anybody may send them."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A tag, or every tag that holds a digest, may have changed."""

    repository: str
    tag: str = ""
    digest: str = ""


def read(body: bytes) -> list[Hint]:
    """The hints in an envelope (media types ``…distribution.events.v1+json`` and ``v2``); raises `ValueError`.

    Pulls and mounts change no tag, and what is outside the grammar names none.
    """
    envelope = json.loads(body)
    events = envelope.get("events") if isinstance(envelope, dict) else None
    if not isinstance(events, list):
        raise ValueError("an envelope has a list of events")  # noqa: TRY004  # the document is wrong, not the call
    return list(dict.fromkeys(hint for event in events for hint in _hints(event)))


def _hints(event: Any) -> Iterator[Hint]:
    target = event.get("target") if isinstance(event, dict) else None
    if not isinstance(target, dict) or event.get("action") not in {"push", "delete"}:
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

    def __init__(self, register: Register, healer: Healer) -> None:
        """What drifted is healed by ``healer``."""
        self._register = register
        self._healer = healer
        self._waiting: dict[Hint, None] = {}
        self._woken = asyncio.Event()
        self._pace = Pace(RATE)

    async def receive(self, request: web.Request) -> web.Response:
        """``POST /notifications``: 202, or 400 for what is no envelope.  Nothing is done before the answer."""
        try:
            hints = read(await request.read())
        except (ValueError, RecursionError):
            return web.json_response(
                {"error": {"code": "bad_envelope", "message": "this is no envelope of events"}}, status=400
            )
        for hint in hints:
            if len(self._waiting) < MAX_WAITING:
                self._waiting[hint] = None
        self._woken.set()
        return web.Response(status=202)

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
                found = await self._register.read(hint.repository, tag)
                if found.committed and not (hint.tag and found.committed.digest == hint.digest):
                    await self._pace.turn()
                    await self._healer.check(found)
        except (LedgerUnavailableError, UpstreamUnavailableError) as error:
            log.warning("hint not followed; the sweep will look", repository=hint.repository, reason=str(error))

    async def _tags(self, hint: Hint) -> list[str]:
        if hint.tag:
            return [hint.tag]
        await self._pace.turn()
        records = await self._register.records(hint.repository, await self._register.tags(hint.repository))
        return [found.tag for found in records if found.committed and found.committed.digest == hint.digest]
