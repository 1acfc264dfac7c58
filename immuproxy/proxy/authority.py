"""May this client push here?  Only the upstream knows, so it is asked before the proxy says anything of its own
(H53-H56).

A PUT with an empty body has no side effect: the registry answers 401 or 403 before it looks at the body, and 400 after
it was let in.  It is sent to the digest of the pushed content, never to a tag, so that even a lenient registry could
not tag an empty body.
"""

from __future__ import annotations

import asyncio
import hashlib

from multidict import CIMultiDict

from immuproxy.oci.names import digest_of
from immuproxy.oci.routes import Kind, build_path
from immuproxy.proxy.answers import Answer
from immuproxy.proxy.caller import Caller
from immuproxy.proxy.upstream import Upstream, UpstreamUnavailableError

REMEMBERED = 10.0
"""Seconds that a permission is remembered for one credential and repository."""

ASKED_AGAIN = 60.0
"""Seconds after which it is checked again that the upstream asks nobody for credentials."""

MAX_REMEMBERED = 10_000
_PROBE_REPOSITORY = "immuproxy/probe"


class Authority:
    """Asks the upstream, and remembers a yes for a moment; a no is never remembered."""

    def __init__(self, upstream: Upstream, *, always: bool) -> None:
        """``always``: ask for each push, even where the upstream seems to ask nobody for credentials."""
        self._upstream = upstream
        self._always = always
        self._open = False
        self._checked_until = 0.0
        self._allowed: dict[tuple[bytes, str], float] = {}

    async def refuse_push(self, repository: str, caller: Caller) -> Answer | None:
        """None when the client may push to the repository; else the upstream's own answer, to be relayed as it is.

        Raises `UpstreamUnavailableError` when the upstream does not say.
        """
        now = asyncio.get_running_loop().time()
        if await self.is_open(now):
            return None
        key = (hashlib.sha256(caller.authorization.encode("utf-8", "surrogateescape")).digest(), repository)
        if self._allowed.get(key, 0.0) > now:
            return None
        answer = await self._ask(repository, caller.headers)
        if answer.status == 400:
            self._remember(key, now)
            return None
        if answer.status in {401, 403, 404, 405, 429}:
            return answer
        message = f"the upstream answered {answer.status} when asked whether this client may push"
        raise UpstreamUnavailableError(message)

    async def is_open(self, now: float) -> bool:
        """Whether the upstream lets in pushes without credentials, as seen at most a minute ago."""
        if self._always:
            return False
        if self._checked_until <= now:
            try:
                answer = await self._ask(_PROBE_REPOSITORY, CIMultiDict())
            except UpstreamUnavailableError:
                return False
            self._open = answer.status == 400
            self._checked_until = now + ASKED_AGAIN
        return self._open

    def confirms(self, caller: Caller) -> bool:
        """Whether an accepted push proves who the caller is: only where the upstream asks for credentials."""
        return bool(caller.actor) and not self._open

    async def _ask(self, repository: str, sent: CIMultiDict[str]) -> Answer:
        asked = CIMultiDict(
            (name, value) for name, value in sent.items() if name.lower() in {"authorization", "user-agent"}
        )
        asked["Content-Type"] = "application/octet-stream"
        return await self._upstream.exchange("PUT", build_path(Kind.MANIFEST, repository, digest_of(b"")), asked, b"")

    def _remember(self, key: tuple[bytes, str], now: float) -> None:
        if len(self._allowed) >= MAX_REMEMBERED:
            self._allowed = {kept: until for kept, until in self._allowed.items() if until > now}
        if len(self._allowed) < MAX_REMEMBERED:
            self._allowed[key] = now + REMEMBERED
