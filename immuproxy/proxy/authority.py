"""May this client push here?  Only the upstream knows, so it is asked before the proxy says anything of its own
(H53-H56).

A PUT with an empty body has no side effect: the registry answers 401 or 403 before it looks at the body, and 400 after
it was let in.  It is sent to the digest of the pushed content, never to a tag, so that even a lenient registry could
not tag an empty body.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TypeVar

from multidict import CIMultiDict

from immuproxy.oci.names import digest_of
from immuproxy.oci.routes import Kind, build_path
from immuproxy.proxy.answers import Answer
from immuproxy.proxy.caller import Caller
from immuproxy.proxy.upstream import Upstream, UpstreamUnavailableError

_K = TypeVar("_K")
_V = TypeVar("_V")

REMEMBERED = 10.0
"""Seconds that a permission is remembered for one credential and repository."""

ASKED_AGAIN = 60.0
"""Seconds after which it is asked again whether a repository lets in strangers."""

MAX_REMEMBERED = 10_000


class Authority:
    """Asks the upstream, and remembers a yes for a moment; a no is never remembered."""

    def __init__(self, upstream: Upstream, *, always: bool) -> None:
        """``always``: ask for each push, even where the upstream seems to ask nobody for credentials."""
        self._upstream = upstream
        self._always = always
        self._open: dict[str, tuple[bool, float]] = {}
        self._allowed: dict[tuple[bytes, str], float] = {}

    async def refuse_push(self, repository: str, caller: Caller) -> Answer | None:
        """None when the client may push to the repository; else the upstream's own answer, to be relayed as it is.

        Raises `UpstreamUnavailableError` when the upstream does not say.
        """
        now = asyncio.get_running_loop().time()
        if await self._lets_strangers_in(repository, now) and not self._always:
            return None
        key = (hashlib.sha256(caller.authorization.encode("utf-8", "surrogateescape")).digest(), repository)
        if self._allowed.get(key, 0.0) > now:
            return None
        answer = await self._ask(repository, caller.headers)
        if answer.status == 400:
            _remember(self._allowed, key, now + REMEMBERED)
            return None
        if answer.status in {401, 403, 404, 405, 429}:
            return answer
        message = f"the upstream answered {answer.status} when asked whether this client may push"
        raise UpstreamUnavailableError(message)

    def confirms(self, repository: str, caller: Caller) -> bool:
        """Whether the push that was just let in proves who the caller is.

        Only where the upstream asks for credentials: where it lets strangers in, anybody may call himself anything.
        """
        lets_strangers_in, _ = self._open.get(repository, (True, 0.0))
        return bool(caller.actor) and not lets_strangers_in

    async def _lets_strangers_in(self, repository: str, now: float) -> bool:
        """Whether a push without credentials would be let in, as seen at most a minute ago.

        Each repository by itself: a door in front of the registry may ask for credentials in some of them only.
        """
        known, until = self._open.get(repository, (False, 0.0))
        if until > now:
            return known
        try:
            answer = await self._ask(repository, CIMultiDict())
        except UpstreamUnavailableError:
            return False
        if answer.status in {400, 401, 403, 404}:
            _remember(self._open, repository, (answer.status == 400, now + ASKED_AGAIN))
        return answer.status == 400

    async def _ask(self, repository: str, sent: CIMultiDict[str]) -> Answer:
        asked = CIMultiDict(
            (name, value) for name, value in sent.items() if name.lower() in {"authorization", "user-agent"}
        )
        asked["Content-Type"] = "application/octet-stream"
        return await self._upstream.exchange("PUT", build_path(Kind.MANIFEST, repository, digest_of(b"")), asked, b"")


def _remember(memory: dict[_K, _V], key: _K, value: _V) -> None:
    """Keep at most `MAX_REMEMBERED`; what was learnt first is forgotten first."""
    memory.pop(key, None)
    if len(memory) >= MAX_REMEMBERED:
        del memory[next(iter(memory))]
    memory[key] = value
