"""What each process of a proxy opens for itself: the files it follows, its connections to Redis and to the registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from immuproxy import __version__
from immuproxy.drift.service import service_caller
from immuproxy.edge.upstream import Upstream
from immuproxy.ledger.safety import Safety
from immuproxy.service.assembly import Choices
from immuproxy.service.config import Config
from immuproxy.service.connections import (
    CannotOpenError,
    EmbeddedServer,
    open_ledger,
    open_upstream,
    service_password,
)
from immuproxy.service.following import Look, follow
from immuproxy.service.listeners import Sockets, Tls
from immuproxy.service.live_rules import LiveRules
from immuproxy.service.live_settings import LiveSettings
from immuproxy.store import cancelling
from immuproxy.store.redis import Store
from immuproxy.telemetry.metrics import Metrics

log = structlog.get_logger("immuproxy")

Work = Callable[[], Coroutine[Any, Any, None]]
"""Goes on in the background for ever."""


class CannotServeError(CannotOpenError):
    """The service cannot start; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """With what a process begins.

    ``config`` is what the proxy was started with, read from ``path``; ``latest`` the newest good version since then.
    ``server``: where an embedded Redis comes from.  ``process`` is the name of this one, where there are several, and
    ``replaced`` how often one of that name has been replaced.
    """

    path: Path
    config: Config
    latest: Config
    sockets: Sockets
    server: EmbeddedServer
    process: str = ""
    replaced: int = 0

    @property
    def name(self) -> str:
        """Of this process and no other of the proxy, also none before it."""
        return f"{self.process}#{self.replaced}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What is open, before anything listens."""

    start: Start
    metrics: Metrics
    rules: LiveRules
    tls: Tls
    store: Store
    upstream: Upstream
    choices: Choices
    safety: Safety

    @property
    def config(self) -> Config:
        """What the proxy was started with."""
        return self.start.config

    @classmethod
    async def open(cls, stack: AsyncExitStack, start: Start, listeners: Sequence[str]) -> Base:
        """Open all in the order in which ``stack`` is to close it last; ``listeners`` are those of this process.

        Raises `CannotOpenError`.
        """
        config, metrics = start.config, Metrics(__version__)
        if start.process:
            metrics.restarted(start.process, start.replaced)
        settings = LiveSettings(config, metrics)
        rules = LiveRules(start.path, config, metrics, settings.take)
        tls = await Tls.read(config, start.latest, listeners, metrics.certificate)
        opening = open_ledger(config, server=start.server, answered=metrics.redis_seconds.observe)
        store = await stack.enter_async_context(opening)
        upstream = await stack.enter_async_context(open_upstream(config, answered=metrics.asked_upstream))
        settings.used_by(tls.use)
        settings.used_by(lambda changed: upstream.use(changed.upstream.timeouts))
        rules.begin_with(start.latest)
        await rules.look()
        return cls(
            start=start,
            metrics=metrics,
            rules=rules,
            tls=tls,
            store=store,
            upstream=upstream,
            choices=_choices(config, settings),
            safety=await _safety(store, strict=not config.redis.allow_unsafe_settings),
        )

    def following(self, reload: asyncio.Event, tell: Look) -> Work:
        """Reads all files again; ``tell`` is called after each look."""
        return lambda: follow([self.rules.look, tell, self.tls.look], reload)


def _choices(config: Config, settings: LiveSettings) -> Choices:
    return Choices(
        manifest_timeout=config.upstream.timeouts.manifest,
        authorize_always=config.upstream.authorize == "always",
        pass_unknown=config.redis.reads_when_down == "pass-through",
        exclusive=config.upstream.exclusive,
        door=lambda: settings.door,
        trust=lambda: settings.trust,
        service=service_caller(config.upstream.username, service_password(config)),
    )


async def _safety(store: Store, *, strict: bool) -> Safety:
    """Looks before anything is served; a Redis that may forget is told here, one that is away may still come."""
    safety = Safety(store, strict=strict)
    found = await safety.look()
    if found.may_forget:
        raise CannotServeError(found.fault)
    return safety


@asynccontextmanager
async def background(works: Sequence[Work]) -> AsyncIterator[None]:
    """All of them, begun again where one fails, and ended with the context."""
    tasks = {asyncio.create_task(_kept_alive(work)) for work in works}
    try:
        yield
    finally:
        await cancelling.end(tasks)


async def _kept_alive(work: Work) -> None:
    """Background work never ends; where it fails all the same, that is said and it begins again."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("background work failed and begins again")
        await asyncio.sleep(1.0)
