"""The files that are read again while the proxy runs: each second, and at once on SIGHUP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

log = structlog.get_logger("immuproxy")

INTERVAL = 1.0
"""Seconds between two looks."""

Look = Callable[[], Awaitable[None]]


async def follow(looks: Sequence[Look], asked: asyncio.Event) -> None:
    """Look at everything for ever; cancel it to stop.  ``asked`` is set where somebody wants that now."""
    while True:
        for look in looks:
            try:
                await look()
            except Exception:
                log.exception("a file could not be looked at")
        try:
            async with asyncio.timeout(INTERVAL):
                await asked.wait()
        except TimeoutError:
            continue
        asked.clear()
        log.info("asked to read all files again; what changed is told")
