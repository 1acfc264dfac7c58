"""Who may have a manifest without the registry being asked: whom it would give it to, as it has said a moment ago.

Either everybody, because the registry gives it to somebody who says nothing of themselves; or whoever sends just what
was sent with a read of the same repository that the registry has answered with the very manifest.  A push proves
nothing here, and neither does anything that a door in front of the registry says in words of its own (H83).
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import FIFOCache
from multidict import CIMultiDict

from immuproxy.edge import headers
from immuproxy.edge.answers import Answer
from immuproxy.edge.caller import Caller
from immuproxy.edge.upstream import Found, Upstream, UpstreamUnavailableError

ASKED_AGAIN = 60.0
"""Seconds after which it is asked again whether a repository is open to strangers."""

SILENT = 5.0
"""The same where the registry did not answer."""

MOST = 10_000
"""Credentials, and repositories, that are remembered; what was learnt first is forgotten first."""

_STRANGER = CIMultiDict([("X-Forwarded-For", "192.0.2.1")])
"""Somebody without a credential, and at an address that nobody has (RFC 5737): without one, a door that goes by
addresses would see the proxy's own and may let that in.
"""

_ENDS_TRUST = frozenset({401, 403, 404})
"""Some registries answer 404 to whom they hide a repository from (H54)."""

_FAILED = 500


@dataclass(slots=True)
class _Strangers:
    """Whether strangers may pull of a repository, and until when that is believed, by the loop's clock.

    ``silent``: the registry did not answer when it was last asked.
    """

    may: bool = False
    until: float = 0.0
    silent: bool = False
    asking: asyncio.Task[None] | None = None


class PullRights:
    """What the registry has said of who may pull."""

    def __init__(self, upstream: Upstream, trust: Callable[[], float]) -> None:
        """``trust``: for how many seconds a read that was accepted counts, now; 0 for nobody and never."""
        self._upstream = upstream
        self._trust = trust
        self._secret = secrets.token_bytes(32)
        self._accepted: FIFOCache[bytes, float] = FIFOCache(MOST)
        self._strangers: FIFOCache[str, _Strangers] = FIFOCache(MOST)

    async def may_pull(self, repository: str, digest: str, caller: Caller) -> bool:
        """Whether this client may have manifest ``digest`` of the repository; asks the registry only for strangers."""
        if not self._trust():
            return False
        return self._is_accepted(repository, caller) or await self._lets_strangers_in(repository, digest, caller)

    def notice(self, repository: str, caller: Caller, answer: Answer, digest: str, asked: float) -> None:
        """The registry gave this answer to a read of ``digest``, which it was ``asked`` then, by the loop's clock."""
        if answer.status < _FAILED:
            self._speaks(repository)
        key = self._key(repository, caller)
        if key is None:
            return
        if answer.status == 200 and answer.digest == digest:
            self._accepted[key] = max(asked, self._accepted.get(key, asked))
        elif answer.status in _ENDS_TRUST:
            self._accepted.pop(key, None)

    def _speaks(self, repository: str) -> None:
        """The registry answers others: where it is silent to strangers, that is meant for them."""
        known = self._strangers.get(repository)
        if known is not None and known.silent:
            known.may = False

    def _is_accepted(self, repository: str, caller: Caller) -> bool:
        key = self._key(repository, caller)
        if key is None or key not in self._accepted:
            return False
        return asyncio.get_running_loop().time() - self._accepted[key] < self._trust()

    def _key(self, repository: str, caller: Caller) -> bytes | None:
        """None of those who say nothing of themselves: a door may know them by their address."""
        told = headers.credentials(caller.headers)
        if not told:
            return None
        text = repr((repository, told)).encode("utf-8", "surrogateescape")
        return hashlib.blake2b(text, key=self._secret).digest()

    async def _lets_strangers_in(self, repository: str, digest: str, caller: Caller) -> bool:
        """As seen at most a minute ago; a registry that does not answer has not changed its mind."""
        known = self._strangers.get(repository)
        if known is None:
            known = self._strangers[repository] = _Strangers()
        if known.until <= asyncio.get_running_loop().time():
            known.asking = known.asking or asyncio.create_task(self._ask(known, repository, digest, caller))
            if not known.silent:
                await asyncio.shield(known.asking)
        return known.may

    async def _ask(self, known: _Strangers, repository: str, digest: str, caller: Caller) -> None:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        try:
            found = await self._upstream.probe(repository, digest, caller.with_headers(_STRANGER))
        except UpstreamUnavailableError as error:
            known.silent = not 0 < error.status < _FAILED
            known.may = known.may and known.silent
            known.until = loop.time() + SILENT
        else:
            known.may, known.silent = isinstance(found, Found) and found.digest == digest, False
            known.until = asked + ASKED_AGAIN
        finally:
            known.asking = None
