"""What ``import`` and ``verify`` share: the parts of the proxy, opened to work as its own account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from immuproxy.commands.running import ledger_of
from immuproxy.drift.healer import Healer
from immuproxy.drift.pace import RateLimit
from immuproxy.drift.polite_client import PoliteClient, Questions
from immuproxy.drift.service import service_caller
from immuproxy.edge.push.attempt import Limits
from immuproxy.edge.push.model import ManifestStore
from immuproxy.edge.recovery import Recovery
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.register import Register
from immuproxy.service.config import Config
from immuproxy.service.connections import open_upstream, service_password

SHOWN = 50
"""Findings of one kind that are shown to a person; JSON has them all."""


@dataclass(frozen=True, slots=True)
class WalkParts:
    """The parts that a walk over the upstream or the ledger needs."""

    register: Register
    recovery: Recovery
    healer: Healer
    questions: Questions


@asynccontextmanager
async def opened_walk(config: Config, rate: float) -> AsyncIterator[WalkParts]:
    """The parts, for as long as the context lasts; raises `CannotOpenError`."""
    password = await asyncio.to_thread(service_password, config)
    caller = service_caller(config.upstream.username, password)
    async with ledger_of(config) as store, open_upstream(config) as upstream:
        account = PoliteClient(upstream, config.upstream.username, password, RateLimit(rate))
        limits = Limits.of(config.upstream.timeouts.manifest)
        register = Register(store, Epoch(store, quarantine=0.0), quarantine_ms=limits.quarantine_ms)
        yield WalkParts(
            register=register,
            recovery=Recovery(register, account, ManifestStore(register, account), limits),
            healer=Healer(register, account, caller, limits),
            questions=Questions(account, caller),
        )
