"""How commands ask the audit: with the index of the proxy on this machine, and a bar for what is read beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from immuproxy.audit import Visitor
from immuproxy.commands.running import ledger_of
from immuproxy.commands.screen import progress_bar
from immuproxy.service.config import Config
from immuproxy.store.redis import Store


@asynccontextmanager
async def visit(config: Config, *, as_json: bool) -> AsyncIterator[tuple[Visitor, Store]]:
    """The audit, with all that was written so far, and the ledger that it belongs to."""
    async with ledger_of(config) as store:
        with progress_bar("reading", "events", as_json=as_json) as bar:

            def progress(done: int, total: int) -> None:
                bar.total(total)
                bar.done(done)

            yield Visitor(store, config.audit.index, progress=progress), store
