"""Asking the upstream about one thing after another, politely and with patience.

A 5xx is asked about again: links are half-written for moments (H15).  An upstream that answers nothing any more ends
the walk, so that a long one does not turn an outage into a thousand findings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from multidict import CIMultiDict

from immuproxy.drift.compare import Seen
from immuproxy.drift.pace import RateLimit
from immuproxy.edge.answers import Answer
from immuproxy.edge.caller import Caller
from immuproxy.edge.push.payload import DeadlinePayload
from immuproxy.edge.tokens import AccountUpstream
from immuproxy.edge.upstream import Found, Upstream, UpstreamUnavailableError

TRIES = 3
PAUSE = 0.2
"""Seconds between two tries."""

PATIENCE = 5
"""Questions in a row that may stay without an answer."""

UNAUTHORIZED = 401
_NOT_FOUND = 404
_OF_A_REGISTRY = {200, UNAUTHORIZED, 403}
"""What a registry may answer to ``GET /v2/`` (specification, "Determining Support")."""

_T = TypeVar("_T")


class AccountRefusedError(Exception):
    """The upstream does not accept the proxy's own account."""


class PoliteClient(AccountUpstream):
    """The upstream as the proxy's own account sees it, asked no faster than a pace allows: lists, manifests, blobs,
    repairs.
    """

    def __init__(self, over: Upstream, username: str | None, password: str | None, pace: RateLimit) -> None:
        super().__init__(over, username, password)
        self._pace = pace

    async def exchange(
        self, method: str, target: str, sent: CIMultiDict[str], body: bytes | DeadlinePayload | None = None
    ) -> Answer:
        """As of `AccountUpstream`, when its turn comes."""
        await self._pace.turn()
        return await super().exchange(method, target, sent, body)


class Questions:
    """The questions of one walk."""

    def __init__(self, upstream: Upstream, caller: Caller) -> None:
        """``caller``: who the proxy is at the upstream."""
        self.upstream = upstream
        self.caller = caller
        self._unanswered = 0

    async def manifest(self, repository: str, reference: str) -> tuple[Seen, Found | None]:
        """What the upstream shows under a tag or digest, and the manifest where there is one.

        Raises `UpstreamUnavailableError` when patience is at its end.
        """
        try:
            found = await self._patiently(lambda: self.upstream.probe(repository, reference, self.caller))
        except UpstreamUnavailableError as error:
            return await self._unanswered_by(error), None
        return (Seen(found.digest), found) if isinstance(found, Found) else (Seen(status=found.status), None)

    async def blob(self, repository: str, digest: str) -> Seen:
        """Whether the first byte of a blob can be read (H25); raises as `manifest`."""
        try:
            present = await self._patiently(lambda: self.upstream.has_blob(repository, digest, self.caller))
        except UpstreamUnavailableError as error:
            return await self._unanswered_by(error)
        return Seen(status=200 if present else 404)

    async def _patiently(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        for _ in range(TRIES - 1):
            try:
                answer = await ask()
            except UpstreamUnavailableError:
                await asyncio.sleep(PAUSE)
            else:
                self._unanswered = 0
                return answer
        answer = await ask()
        self._unanswered = 0
        return answer

    async def _unanswered_by(self, error: UpstreamUnavailableError) -> Seen:
        """A finding; or the end of the walk, where the upstream does not answer anything else either."""
        self._unanswered += 1
        if self._unanswered >= PATIENCE:
            await self.alive()
            self._unanswered = 0
        return Seen(status=0, failure=str(error))

    async def alive(self) -> None:
        """Raise `UpstreamUnavailableError` where the upstream does not answer as a registry does, and
        `AccountRefusedError` where it does not accept the account that was configured.
        """
        answer = await self.upstream.exchange("GET", "/v2/", self.caller.headers.copy())
        if answer.status == UNAUTHORIZED and self.caller.authorization:
            raise AccountRefusedError
        if answer.status not in _OF_A_REGISTRY:
            raise UpstreamUnavailableError(f"it answers {answer.status} to GET /v2/")


async def shown(upstream: Upstream, repository: str, reference: str, caller: Caller) -> str:
    """The digest under a tag or digest, empty for none; raises `UpstreamUnavailableError` where it tells neither.

    ``caller`` is who the proxy is at the upstream.
    """
    seen = await upstream.probe(repository, reference, caller)
    if isinstance(seen, Found):
        return seen.digest
    if seen.status != _NOT_FOUND:
        raise UpstreamUnavailableError(f"it answered {seen.status}: give immuproxy credentials of its own for this")
    return ""
