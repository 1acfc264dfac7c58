"""For which platform a single image is, which only its config tells; for the audit and for people.

The config is read beside the push, with the client's own credentials, from when the push is about to be sent: no push
waits for it, and none fails by it.  Where it comes too late, or the client may not read, the event names no platform.
What was read is remembered for a while, so that a refused or repeated push of the same image names it as well.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from cachetools import FIFOCache

from immuproxy.edge.caller import Caller
from immuproxy.edge.upstream import Upstream, UpstreamUnavailableError
from immuproxy.ledger.model import Event
from immuproxy.oci import manifests
from immuproxy.oci.manifests import Manifest

LARGEST = 64 * 1024
"""Bytes of a config that is read; that of an image with a hundred layers has a third of it."""

LONGEST = 5.0
"""Seconds that one may take."""

AT_ONCE = 4
MAX_UNDER_WAY = 64
"""Configs that are read at a time, and that are read or wait for it; what does not fit is not read."""

MOST = 10_000
"""Platforms that are remembered; what was read first is forgotten first."""

_Place = tuple[str, str]


class Platforms:
    """What was read of configs, by repository and digest."""

    def __init__(self, upstream: Upstream) -> None:
        """Configs are read from ``upstream``."""
        self._upstream = upstream
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._known: FIFOCache[_Place, str] = FIFOCache(MOST)
        self._under_way: dict[_Place, asyncio.Task[None]] = {}

    def begin(self, repository: str, manifest: Manifest, caller: Caller) -> None:
        """Read the config of a small image in the background, unless it is known; does not wait."""
        place = (repository, manifest.config)
        if not manifest.is_image or manifest.config_size > LARGEST or place in self._known or place in self._under_way:
            return
        if len(self._under_way) < MAX_UNDER_WAY:
            task = asyncio.create_task(self._read(place, caller))
            self._under_way[place] = task
            task.add_done_callback(lambda _: self._under_way.pop(place, None))

    def of(self, repository: str, manifest: Manifest) -> tuple[str, ...]:
        """``os/architecture[/variant]``: what an index lists, or the one of an image; empty where it is not known."""
        found = self._known.get((repository, manifest.config), "") if manifest.is_image else ""
        return (found,) if found else manifest.platforms

    def shown(self, event: Event, manifest: Manifest) -> Event:
        """The event of a push of ``manifest`` with what is known by now."""
        return replace(event, platforms=self.of(event.repository, manifest))

    async def ended(self) -> None:
        """Give up what is being read."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, place: _Place, caller: Caller) -> None:
        try:
            async with asyncio.timeout(LONGEST), self._turns:
                config = await self._upstream.small_blob(*place, caller)
        except (UpstreamUnavailableError, TimeoutError):
            return
        if config is not None and len(config) <= LARGEST:
            self._known[place] = manifests.config_platform(config)
