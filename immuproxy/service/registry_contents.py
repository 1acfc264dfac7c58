"""What the console reads of the registry: manifests and configs by their digests, as the proxy's own account.

Everything is bounded: the bytes of one answer, the questions at one time, their time, and the memory.  A digest never
comes to mean something else, so what was read is kept for a while; so is, for a shorter while, that it could not be
read, so that a page that is loaded again and again asks once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from cachetools import TLRUCache

from immuproxy.console.manifests.contents import Bytes
from immuproxy.edge.caller import Caller
from immuproxy.edge.upstream import Found, Upstream, UpstreamUnavailableError
from immuproxy.oci.names import digest_of, is_digest
from immuproxy.oci.routes import RouteKind, build_path

PATIENCE = 3.0
"""Seconds for one question, its turn included."""

ASKED_AT_ONCE = 4

MOST_BYTES = 16 * 1024 * 1024
"""Bytes that are kept; what was used longest ago is forgotten first."""

KEPT = 600.0
KEPT_FAILURE = 5.0
"""Seconds."""

_OVERHEAD = 512
_Key = tuple[RouteKind, str, str]

_REFUSED = "The registry does not let the proxy's own account read it (upstream.username in the configuration)."
_MISSING = "The registry does not have it."
_OTHER = "The registry does not give out what the digest stands for."


class RegistryContents:
    """Reads for everybody who looks at the console; see `immuproxy.console.manifests.contents.RegistryReader`."""

    def __init__(self, upstream: Upstream, caller: Caller, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``upstream``, as ``caller`` (the proxy's own account) asks it; ``clock`` gives seconds."""
        self._upstream = upstream
        self._caller = caller
        self._turns = asyncio.Semaphore(ASKED_AT_ONCE)
        self._known: TLRUCache[_Key, Bytes] = TLRUCache(MOST_BYTES, _end, clock, getsizeof=_size)
        self._asked: dict[_Key, asyncio.Task[Bytes]] = {}

    async def manifest(self, repository: str, digest: str) -> Bytes:
        """A manifest of at most 4 MiB."""
        return await self._read((RouteKind.MANIFEST, repository, digest), self._manifest)

    async def config(self, repository: str, digest: str) -> Bytes:
        """A blob of at most a manifest's size."""
        return await self._read((RouteKind.BLOB, repository, digest), self._config)

    async def _read(self, key: _Key, ask: Callable[[str, str], Awaitable[Bytes]]) -> Bytes:
        known = self._known.get(key)
        if known is not None:
            return known
        # Those who want the same at the same time share the question; it goes on when one of them leaves.
        if key not in self._asked:
            self._asked[key] = asyncio.create_task(self._asking(key, ask))
            self._asked[key].add_done_callback(lambda _: self._asked.pop(key, None))
        return await asyncio.shield(self._asked[key])

    async def _asking(self, key: _Key, ask: Callable[[str, str], Awaitable[Bytes]]) -> Bytes:
        _, repository, digest = key
        try:
            async with asyncio.timeout(PATIENCE), self._turns:
                found = await ask(repository, digest)
        except TimeoutError:
            found = Bytes(why_not="The registry took too long to answer.")
        except UpstreamUnavailableError as error:
            found = Bytes(why_not=f"The registry could not be asked: {error}.")
        self._known[key] = found
        return found

    async def _manifest(self, repository: str, digest: str) -> Bytes:
        found = await self._upstream.probe(repository, digest, self._caller)
        if isinstance(found, Found):
            # Of a manifest in the oldest form the registry only says the digest; its bytes have another.
            same = digest_of(found.body) == digest
            return Bytes(found.body, found.media_type) if same else Bytes(why_not=_OTHER)
        return Bytes(why_not=_why_not(found.status))

    async def _config(self, repository: str, digest: str) -> Bytes:
        body = await self._upstream.small_blob(repository, digest, self._caller) if is_digest(digest) else None
        if body is not None:
            return Bytes(body)
        answer = await self._upstream.exchange(
            "HEAD", build_path(RouteKind.BLOB, repository, digest), self._caller.headers.copy()
        )
        return Bytes(why_not=_why_not(answer.status))


def _end(_: _Key, content: Bytes, now: float) -> float:
    """When it is forgotten."""
    return now + (KEPT_FAILURE if content.why_not else KEPT)


def _size(content: Bytes) -> int:
    return len(content.body) + _OVERHEAD


def _why_not(status: int) -> str:
    match status:
        case 401 | 403:
            return _REFUSED
        case 404:
            return _MISSING
        case _:
            return _OTHER
