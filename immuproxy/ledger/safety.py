"""Whether Redis may be trusted with the ledger: it must keep what it is told (H69), and let the proxy do all of its
steps (H98).

What is found opens and shuts the store's gate, `immuproxy.store.redis.Store.refusal`: while it is shut, no script runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import structlog

from immuproxy.store import cancelling
from immuproxy.store.redis import LedgerRefusedError, LedgerUnavailableError, Store
from immuproxy.store.shared import Shared

log = structlog.get_logger("immuproxy.ledger")

INTERVAL = 2.0
"""Seconds between two looks."""

LONGEST = 2.0
"""Seconds after which Redis counts as not answering."""


@dataclass(frozen=True, slots=True)
class RedisFinding:
    """What a look found.

    ``fault``: why nothing can be written, empty where all can.  ``may_forget``: it is that Redis is set up to forget.
    ``version``: of the server, ``?`` where that could not be asked.
    """

    fault: str = ""
    may_forget: bool = False
    version: str = "?"


class Safety:
    """Looks at Redis, sets the gate, and keeps what it found last.

    Of a Redis that does not answer the gate stays as it was: what cannot be reached cannot be written either.
    """

    def __init__(self, store: Store, *, strict: bool) -> None:
        """``strict``: settings under which Redis may forget shut the gate; else they are only logged."""
        self._store = store
        self._strict = strict
        self._allowed = ""
        self.found = RedisFinding(fault="it has not been looked at")
        self._looking = Shared(self._look_once)

    async def watch(self) -> None:
        """Look for ever; cancel it to stop."""
        try:
            while True:
                await asyncio.sleep(INTERVAL)
                await self.look()
        finally:
            await cancelling.end(self._looking.tasks)

    async def look(self) -> RedisFinding:
        """Look now, once for all who ask at the same time; never raises, takes at most two seconds."""
        return await self._looking.ask()

    async def _look_once(self) -> RedisFinding:
        try:
            async with asyncio.timeout(LONGEST):
                self.found = await self._look()
        except (LedgerUnavailableError, TimeoutError) as error:
            self.found = RedisFinding(fault=str(error) or "no answer in time")
        return self.found

    async def _look(self) -> RedisFinding:
        try:
            told = await self._store.information()
        except LedgerRefusedError as error:  # whoever does not let itself be asked may forget
            self._store.refusal = str(error)
            return RedisFinding(fault=str(error))
        version = str(told.get("redis_version", "?"))
        self._store.refusal = self._danger(told)
        if self._store.refusal:
            return RedisFinding(self._store.refusal, may_forget=True, version=version)
        return RedisFinding(await self._store.try_rights(), version=version)

    def _danger(self, told: Mapping[str, object]) -> str:
        """Why this Redis may forget what it is told; empty when it may not, or when that is allowed."""
        faults = "; ".join(_faults(told))
        text = f"Redis is not safe for a ledger: {faults}" if faults else ""
        if text and self._strict:
            return f"{text} (or redis.allow_unsafe_settings: true, knowing that)"
        if text and text != self._allowed:
            log.warning(text)
        self._allowed = text
        return ""


def _faults(told: Mapping[str, object]) -> Iterator[str]:
    policy = told.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield f"its maxmemory-policy is {policy}, which throws tags away when memory is short; set noeviction"
    if not told.get("aof_enabled", 1):
        yield "it keeps no append-only file, so a restart forgets tags; set appendonly yes"
