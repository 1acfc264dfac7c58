"""The composition root: every room is opened, put together and closed here, and nothing is decided.

The order matters at both ends: the ledger and the upstream open first and close last; at the end the listeners stop
taking connections, then the pushes under way come to their end, then the rest is cancelled.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog

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
from immuproxy.edge.caller import Caller
from immuproxy.edge.push.model import ManifestStore
from immuproxy.edge.recovery import Recovery
from immuproxy.edge.tokens import AccountUpstream
from immuproxy.edge.upstream import Upstream
from immuproxy.ledger.model import Event
from immuproxy.ledger.proxies import Proxies
from immuproxy.ledger.safety import Safety
from immuproxy.listening import files
from immuproxy.service.assembly import Choices, Parts, assemble
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
    metrics = Metrics(__version__)
    settings = LiveSettings(config, metrics)
    rules = LiveRules(path, config, metrics, settings.take)
    tls = await Tls.read(config, metrics.certificate)
    settings.used_by(tls.use)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_ledger(config, alone=True, answered=metrics.redis_seconds.observe))
        upstream = await stack.enter_async_context(open_upstream(config, answered=metrics.asked_upstream))
        account = AccountUpstream(upstream, config.upstream.username, service_password(config))
        projector = Projector(store, on_lag=metrics.outbox_lag.set)
        events = Record(store)
        index = Index(config.audit.index, told=lambda said: log.info("audit_index", said=said))
        stack.push_async_callback(index.close)
        follower = Follower(await stack.enter_async_context(open_ledger(config)), index, on_failure=_not_followed)
        audit = Audit(index, follower)
        door = await _door(config, store, events, metrics)
        choices = _choices(config, settings)
        settings.used_by(lambda changed: upstream.use(changed.upstream.timeouts))
        parts = assemble(
            rules, store, upstream, metrics, choices, account=account, published=projector.notify, record=audit
        )
        safety = await _safety(store, strict=not config.redis.allow_unsafe_settings)
        health = Health(safety, parts.epoch.clock, upstream, metrics)
        await health.check()
        stack.push_async_callback(parts.pushes.finished)
        edge = await stack.enter_async_context(
            open_edge(config.edge, tls.edge, parts.edge.handle, patience=3 * choices.manifest_timeout)
        )
        console_app = make_console(
            replace(
                _sources(
                    audit=audit,
                    rosters=Rosters(store, audit),
                    parts=parts,
                    rules=rules,
                    health=health,
                    metrics=metrics,
                    edge=edge,
                ),
                contents=RegistryContents(account, choices.service),
            ),
            door,
            open_metrics=config.console.auth is None or config.console.auth.metrics == "open",
        )
        notifications = Notifications(parts.register, parts.healer, notifications_token(config))
        console_app.router.add_post(NOTIFICATIONS_PATH, notifications.receive)
        leave_open(console_app, NOTIFICATIONS_PATH)  # it has a secret of its own, and what it hears is only a hint
        console = await stack.enter_async_context(open_console(config.console, tls.console, console_app))
        sweep = _sweep(choices.service, rules, parts, account, metrics)
        own = _account(config, choices.service, account, metrics)
        background = (
            *((own.watch,) if own else ()),
            projector.run,
            partial(old_keys.keep_deleted, store),
            partial(_followed, index, follower),
            partial(watching.watch, audit, follower, partial(_indexed, metrics)),
            partial(follow, [rules.look, partial(rules.tell, events.append), tls.look], reload),
            partial(rules.compare, Proxies(store)),
            *sweep.works,
            notifications.run,
            safety.watch,
            health.watch,
            parts.epoch.watch,
            parts.healer.run,
        )
        await stack.enter_async_context(_background(background))
        yield Running(edge, console, health)


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
        door=lambda: settings.door,
        service=service_caller(config.upstream.username, service_password(config)),
    )


def _sources(
    *,
    audit: Audit,
    rosters: Rosters,
    parts: Parts,
    rules: LiveRules,
    health: Health,
    metrics: Metrics,
    edge: tuple[str, int],
) -> Sources:
    host, port = edge
    reached = "localhost" if host in {"0.0.0.0", "::", "127.0.0.1", "::1"} else host  # noqa: S104  # shown, not bound
    return Sources(
        audit=audit,
        rosters=rosters,
        register=parts.register,
        exceptions=parts.exceptions,
        rules=lambda: rules.state,
        status=health.parts,
        metrics=metrics.registry,
        clock=record.now_ms,
        edge=_shown((reached, port)),
        version=__version__,
        pace=ComparisonPace(COMPARED_EVERY, RATE),
    )


def _sweep(service: Caller, rules: LiveRules, parts: Parts, account: Upstream, metrics: Metrics) -> Sweep:
    return Sweep(
        rules=rules,
        register=parts.register,
        epoch=parts.epoch,
        exceptions=parts.exceptions,
        upstream=account,
        recovery=Recovery(parts.register, account, ManifestStore(parts.register, account), parts.limits),
        limits=parts.limits,
        healer=parts.healer,
        caller=service,
        witnesses=parts.witnesses,
        counted=metrics.compared,
        open_drift=metrics.open_drift.set,
    )


def _account(config: Config, service: Caller, account: Upstream, metrics: Metrics) -> Account | None:
    if config.upstream.username is None:
        return None
    return Account(account, service, config.upstream.username, metrics.up.labels("account").set)


async def _door(config: Config, store: Store, events: Record, metrics: Metrics) -> ConsoleDoor:
    """The way into the console; what its users file has wrong is told before anything listens."""

    async def told(event: Event) -> None:
        metrics.event(event.action, event.outcome)
        await events.append(event)

    try:
        return await open_door(config.console.auth, store, told, record.now_ms)
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
