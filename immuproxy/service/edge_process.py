"""What serves clients' requests, in a process of its own or beside the office; it does nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from immuproxy.ledger.model import Event
from immuproxy.service.assembly import Parts
from immuproxy.service.base import Base, Start, background
from immuproxy.service.between import Answering, Hints, Wires
from immuproxy.service.listeners import EDGE, open_edge


@asynccontextmanager
async def serving(base: Base, parts: Parts) -> AsyncIterator[None]:
    """Clients are served; at the end no more are taken, and then the pushes under way come to their end."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(parts.reads.ended)
        stack.push_async_callback(parts.manifest_puts.finished)
        patience = 3 * base.choices.manifest_timeout
        opening = open_edge(base.start.sockets.edge, base.tls, parts.edge.handle, patience=patience)
        await stack.enter_async_context(opening)
        yield


@asynccontextmanager
async def edge(wires: Wires, start: Start, reload: asyncio.Event) -> AsyncIterator[None]:
    """One edge process: it gives the office hints, and answers its questions."""
    hints = Hints(wires.hints[1])
    answering = Answering(wires.asked[start.process][1], start.name)
    async with AsyncExitStack() as stack:
        base = await Base.open(stack, start, (EDGE,))
        parts = Parts(
            base.rules,
            base.store,
            base.upstream,
            base.metrics,
            base.choices,
            published=hints.published,
            drifted=hints.drifted,
        )
        works = (
            base.following(reload, lambda: base.rules.tell(_told_by_the_office)),
            parts.epoch.watch,
            base.safety.watch,
            lambda: answering.run(base.metrics),
        )
        await stack.enter_async_context(serving(base, parts))
        await stack.enter_async_context(background(works))
        yield


async def _told_by_the_office(_event: Event) -> None:
    """One event for all processes."""
