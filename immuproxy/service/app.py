"""The composition root: every room is opened, put together and closed here, and nothing is decided.

The order matters at both ends: the ledger and the upstream open first and close last; at the end the listeners stop
taking connections, then the pushes under way come to their end, then the rest is cancelled.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from immuproxy import __version__
from immuproxy.audit import Audit, Follower, Index, Rosters, watching
from immuproxy.audit.record import Projector, Record, old_keys
from immuproxy.console.access.authenticators import Authenticator as ConsoleDoor
from immuproxy.console.access.guard import leave_open
from immuproxy.console.access.opening import open_door
from immuproxy.console.access.users import UsersFileError
from immuproxy.console.app import make_console
from immuproxy.console.sources import ComparisonPace, Sources
from immuproxy.drift.account import Account
from immuproxy.drift.comparing import COMPARED_EVERY, RATE
from immuproxy.drift.notifications import PATH as NOTIFICATIONS_PATH
from immuproxy.drift.notifications import Notifications
from immuproxy.drift.service import service_caller
from immuproxy.drift.sweep import Sweep
from immuproxy.edge import record
from immuproxy.edge.push.model import ManifestStore
from immuproxy.edge.recovery import Recovery
from immuproxy.edge.tokens import AccountUpstream
from immuproxy.edge.upstream import Upstream
from immuproxy.ledger.model import Event
from immuproxy.ledger.proxies import Proxies
from immuproxy.ledger.safety import Safety
from immuproxy.listening import files
from immuproxy.service.assembly import Choices, Parts
from immuproxy.service.config import Config
from immuproxy.service.connections import (
    CannotOpenError,
    notifications_token,
    open_ledger,
    open_upstream,
    service_password,
)
from immuproxy.service.following import follow
from immuproxy.service.health import Health
from immuproxy.service.listeners import Tls, open_console, open_edge
from immuproxy.service.live_rules import LiveRules
from immuproxy.service.live_settings import LiveSettings
from immuproxy.service.registry_contents import RegistryContents
from immuproxy.store import cancelling
from immuproxy.store.redis import Store
from immuproxy.telemetry.metrics import Metrics

log = structlog.get_logger("immuproxy")


class CannotServeError(CannotOpenError):
    """The service cannot start; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Running:
    """What serves, until its context ends."""

    edge: tuple[str, int]
    console: tuple[str, int]
    health: Health


async def serve(path: Path, config: Config) -> None:
    """Serve until SIGINT or SIGTERM what ``config`` says, read from ``path``; raises `CannotOpenError`.

    SIGHUP has all files read again at once.
    """
    files.raise_limit()
    stop, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    async with running(path, config, reload) as service:
        log.info("ready", edge=_shown(service.edge), console=_shown(service.console), version=__version__)
        await stop.wait()
        log.info("stopping: pushes under way are finished first")


@asynccontextmanager
async def running(path: Path, config: Config, reload: asyncio.Event) -> AsyncIterator[Running]:
    """The whole service on its listeners; ``reload`` is set where all files are to be read again at once."""
    async with AsyncExitStack() as stack:
        rooms = await _open(stack, path, config)
        door = await _door(rooms)
        safety = await _safety(rooms.store, strict=not config.redis.allow_unsafe_settings)
        health = Health(safety, rooms.parts.epoch.clock, rooms.upstream, rooms.metrics)
        await health.check()
        stack.push_async_callback(rooms.parts.reads.ended)
        stack.push_async_callback(rooms.parts.manifest_puts.finished)
        patience = 3 * rooms.choices.manifest_timeout
        edge = await stack.enter_async_context(
            open_edge(config.edge, rooms.tls.edge, rooms.parts.edge.handle, patience=patience)
        )
        notifications = Notifications(rooms.parts.register, rooms.parts.healer, notifications_token(config))
        app = _console(rooms, door, _sources(rooms, health, edge), notifications)
        console = await stack.enter_async_context(open_console(config.console, rooms.tls.console, app))
        works = (*_works(rooms, reload), notifications.run, safety.watch, health.watch)
        await stack.enter_async_context(_background(works))
        yield Running(edge, console, health)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rooms:
    """What is open and put together, before anything listens."""

    config: Config
    metrics: Metrics
    rules: LiveRules
    tls: Tls
    store: Store
    upstream: Upstream
    account: Upstream
    projector: Projector
    events: Record
    index: Index
    follower: Follower
    audit: Audit
    choices: Choices
    parts: Parts


async def _open(stack: AsyncExitStack, path: Path, config: Config) -> _Rooms:
    """Open all that is asked, in the order in which ``stack`` is to close it last."""
    metrics = Metrics(__version__)
    settings = LiveSettings(config, metrics)
    rules = LiveRules(path, config, metrics, settings.take)
    tls = await Tls.read(config, metrics.certificate)
    store = await stack.enter_async_context(open_ledger(config, alone=True, answered=metrics.redis_seconds.observe))
    upstream = await stack.enter_async_context(open_upstream(config, answered=metrics.asked_upstream))
    account = AccountUpstream(upstream, config.upstream.username, service_password(config))
    projector = Projector(store, on_lag=metrics.outbox_lag.set)
    index = Index(config.audit.index, told=lambda said: log.info("audit_index", said=said))
    stack.push_async_callback(index.close)
    follower = Follower(await stack.enter_async_context(open_ledger(config)), index, on_failure=_not_followed)
    audit = Audit(index, follower)
    choices = _choices(config, settings)
    settings.used_by(tls.use)
    settings.used_by(lambda changed: upstream.use(changed.upstream.timeouts))
    parts = Parts(rules, store, upstream, metrics, choices, account=account, published=projector.notify, record=audit)
    return _Rooms(
        config=config,
        metrics=metrics,
        rules=rules,
        tls=tls,
        store=store,
        upstream=upstream,
        account=account,
        projector=projector,
        events=Record(store),
        index=index,
        follower=follower,
        audit=audit,
        choices=choices,
        parts=parts,
    )


def _console(rooms: _Rooms, door: ConsoleDoor, sources: Sources, notifications: Notifications) -> web.Application:
    auth = rooms.config.console.auth
    app = make_console(sources, door, open_metrics=auth is None or auth.metrics == "open")
    app.router.add_post(NOTIFICATIONS_PATH, notifications.receive)
    leave_open(app, NOTIFICATIONS_PATH)  # it has a secret of its own, and what it hears is only a hint
    return app


def _works(rooms: _Rooms, reload: asyncio.Event) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
    """What goes on in the background."""
    own = _account(rooms)
    return (
        *((own.watch,) if own else ()),
        rooms.projector.run,
        partial(old_keys.keep_deleted, rooms.store),
        partial(_followed, rooms.index, rooms.follower),
        partial(watching.watch, rooms.audit, rooms.follower, partial(_indexed, rooms.metrics)),
        partial(follow, [rooms.rules.look, partial(rooms.rules.tell, rooms.events.append), rooms.tls.look], reload),
        partial(rooms.rules.compare, Proxies(rooms.store)),
        *_sweep(rooms).works,
        rooms.parts.epoch.watch,
        rooms.parts.healer.run,
    )


async def _safety(store: Store, *, strict: bool) -> Safety:
    """Looks before anything is served; a Redis that may forget is told here, one that is away may still come."""
    safety = Safety(store, strict=strict)
    found = await safety.look()
    if found.may_forget:
        raise CannotServeError(found.fault)
    return safety


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


def _sources(rooms: _Rooms, health: Health, address: tuple[str, int]) -> Sources:
    """``address``: the edge's."""
    host, port = address
    reached = "localhost" if host in {"0.0.0.0", "::", "127.0.0.1", "::1"} else host  # noqa: S104  # shown, not bound
    return Sources(
        audit=rooms.audit,
        rosters=Rosters(rooms.store, rooms.audit),
        register=rooms.parts.register,
        exceptions=rooms.parts.exceptions,
        rules=lambda: rooms.rules.state,
        status=lambda: health.last,
        probe=health.parts,
        metrics=rooms.metrics.registry,
        clock=record.now_ms,
        edge=_shown((reached, port)),
        version=__version__,
        pace=ComparisonPace(COMPARED_EVERY, RATE),
        contents=RegistryContents(rooms.account, rooms.choices.service),
    )


def _sweep(rooms: _Rooms) -> Sweep:
    parts, account = rooms.parts, rooms.account
    return Sweep(
        rules=rooms.rules,
        register=parts.register,
        epoch=parts.epoch,
        exceptions=parts.exceptions,
        upstream=account,
        recovery=Recovery(
            parts.register,
            account,
            ManifestStore(parts.register, account),
            parts.limits,
            adopted=parts.adoptions.adopted,
        ),
        limits=parts.limits,
        healer=parts.healer,
        caller=rooms.choices.service,
        witnesses=parts.witnesses,
        counted=rooms.metrics.compared,
        open_drift=rooms.metrics.open_drift.set,
    )


def _account(rooms: _Rooms) -> Account | None:
    username = rooms.config.upstream.username
    if username is None:
        return None
    return Account(rooms.account, rooms.choices.service, username, rooms.metrics.up.labels("account").set)


async def _door(rooms: _Rooms) -> ConsoleDoor:
    """The way into the console; what its users file has wrong is told before anything listens."""

    async def told(event: Event) -> None:
        rooms.metrics.event(event.action, event.outcome)
        await rooms.events.append(event)

    try:
        return await open_door(rooms.config.console.auth, rooms.store, told, record.now_ms)
    except UsersFileError as error:
        raise CannotServeError(str(error)) from error


async def _followed(index: Index, follower: Follower) -> None:
    """Opened only here: no push, no pull and no start waits for a disk that keeps what can be built anew."""
    await index.open()
    log.info("audit_index", said=f"the audit's index is kept {index.place}")
    await follower.run()


def _indexed(metrics: Metrics, now: watching.IndexState) -> None:
    metrics.indexed(now.events, now.lag, whole=now.whole)


def _not_followed(error: Exception | None) -> None:
    if error is None:
        log.info("the audit's index follows again")
    else:
        log.warning("the audit's index does not follow", error=str(error))


@asynccontextmanager
async def _background(works: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> AsyncIterator[None]:
    tasks = {asyncio.create_task(_kept_alive(work)) for work in works}
    try:
        yield
    finally:
        await cancelling.end(tasks)


async def _kept_alive(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Background work never ends; where it fails all the same, that is said and it begins again."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("background work failed and begins again")
        await asyncio.sleep(1.0)


def _shown(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
