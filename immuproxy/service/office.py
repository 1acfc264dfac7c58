"""All that is no client's request: the console, the audit's index, the sweep, healing, the registry's notifications.

It may be away at any moment: no push and no pull waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

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
from immuproxy.drift.sweep import Sweep
from immuproxy.edge import record
from immuproxy.edge.push.model import ManifestStore
from immuproxy.edge.recovery import Recovery
from immuproxy.edge.tokens import AccountUpstream
from immuproxy.edge.upstream import Upstream
from immuproxy.ledger.model import Event
from immuproxy.ledger.proxies import Proxies
from immuproxy.service.assembly import Parts
from immuproxy.service.base import Base, CannotServeError, Start, Work, background
from immuproxy.service.between import Edges, Heard, Wires
from immuproxy.service.connections import notifications_token, open_ledger, service_password
from immuproxy.service.health import Health
from immuproxy.service.listeners import CONSOLE, open_console
from immuproxy.service.registry_contents import RegistryContents
from immuproxy.store import attached
from immuproxy.telemetry.metrics import Metrics
from immuproxy.values.listen import Listen

log = structlog.get_logger("immuproxy")


@asynccontextmanager
async def office(wires: Wires, start: Start, reload: asyncio.Event) -> AsyncIterator[None]:
    """The office process: it takes the hints of the edges, and asks them how they do."""
    heard = Heard(wires.hints[0])
    edges = Edges([asking for asking, _ in wires.asked.values()], wires.totals, start.name)
    async with AsyncExitStack() as stack:
        base = await Base.open(stack, start, (CONSOLE,))
        room = await Office.open(stack, base)
        works = [lambda: heard.follow(room.projector.notify, room.parts.register, room.parts.healer)]
        await stack.enter_async_context(room.working(reload, works, edges))
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """What the office works with, open and put together."""

    base: Base
    account: Upstream
    projector: Projector
    events: Record
    index: Index
    follower: Follower
    audit: Audit
    parts: Parts
    door: ConsoleDoor
    notifications: Notifications

    @classmethod
    async def open(cls, stack: AsyncExitStack, base: Base) -> Office:
        """Open all that is asked, in the order in which ``stack`` is to close it last.  Raises `CannotOpenError`."""
        config = base.config
        account = AccountUpstream(base.upstream, config.upstream.username, service_password(config))
        projector = Projector(base.store, on_lag=base.metrics.outbox_lag.set)
        index = Index(config.audit.index, told=lambda said: log.info("audit_index", said=said))
        stack.push_async_callback(index.close)
        beside = await stack.enter_async_context(open_ledger(config, server=attached.kept))
        follower = Follower(beside, index, on_failure=_not_followed)
        audit = Audit(index, follower)
        parts = Parts(
            base.rules,
            base.store,
            base.upstream,
            base.metrics,
            base.choices,
            account=account,
            published=projector.notify,
            record=audit,
        )
        events = Record(base.store)
        return cls(
            base=base,
            account=account,
            projector=projector,
            events=events,
            index=index,
            follower=follower,
            audit=audit,
            parts=parts,
            door=await _door(base, events),
            notifications=Notifications(parts.register, parts.healer, notifications_token(config)),
        )

    @asynccontextmanager
    async def working(
        self, reload: asyncio.Event, works: Sequence[Work] = (), edges: Edges | None = None
    ) -> AsyncIterator[None]:
        """The console is served, and all goes on that does so in the background, ``works`` beside it."""
        base = self.base
        async with AsyncExitStack() as stack:
            serve = edges.serve if edges else None
            health = Health(base.safety, self.parts.epoch.clock, base.upstream, base.metrics, serve)
            await health.check()
            app = self._console(self._sources(health, edges))
            await stack.enter_async_context(open_console(base.start.sockets.console, base.tls, app))
            mine = (*self._works(reload), self.notifications.run, base.safety.watch, health.watch)
            await stack.enter_async_context(background((*mine, *works)))
            yield

    def _console(self, sources: Sources) -> web.Application:
        auth = self.base.config.console.auth
        app = make_console(sources, self.door, open_metrics=auth is None or auth.metrics == "open")
        app.router.add_post(NOTIFICATIONS_PATH, self.notifications.receive)
        leave_open(app, NOTIFICATIONS_PATH)  # it has a secret of its own, and what it hears is only a hint
        return app

    def _works(self, reload: asyncio.Event) -> Sequence[Work]:
        base, own = self.base, self._account_watch()
        return (
            *((own.watch,) if own else ()),
            self.projector.run,
            partial(old_keys.keep_deleted, base.store),
            partial(_followed, self.index, self.follower),
            partial(watching.watch, self.audit, self.follower, partial(_indexed, base.metrics)),
            base.following(reload, partial(base.rules.tell, self.events.append)),
            partial(base.rules.compare, Proxies(base.store)),
            *self._sweep().works,
            self.parts.epoch.watch,
            self.parts.healer.run,
        )

    def _sources(self, health: Health, edges: Edges | None) -> Sources:
        base = self.base
        return Sources(
            audit=self.audit,
            rosters=Rosters(base.store, self.audit),
            register=self.parts.register,
            exceptions=self.parts.exceptions,
            rules=lambda: base.rules.state,
            status=lambda: health.last,
            probe=health.parts,
            metrics=partial(edges.metrics, base.metrics) if edges else base.metrics.now,
            clock=record.now_ms,
            edge=_shown(base.start.sockets.edge_at),
            version=__version__,
            pace=ComparisonPace(COMPARED_EVERY, RATE),
            contents=RegistryContents(self.account, base.choices.service),
        )

    def _sweep(self) -> Sweep:
        parts, account = self.parts, self.account
        return Sweep(
            rules=self.base.rules,
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
            caller=self.base.choices.service,
            witnesses=parts.witnesses,
            counted=self.base.metrics.compared,
            open_drift=self.base.metrics.open_drift.set,
        )

    def _account_watch(self) -> Account | None:
        username = self.base.config.upstream.username
        if username is None:
            return None
        told = self.base.metrics.up.labels("account").set
        return Account(self.account, self.base.choices.service, username, told)


async def _door(base: Base, events: Record) -> ConsoleDoor:
    """The way into the console; what its users file has wrong is told before anything listens."""

    async def told(event: Event) -> None:
        base.metrics.event(event.action, event.outcome)
        await events.append(event)

    try:
        return await open_door(base.config.console.auth, base.store, told, record.now_ms)
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


def _shown(edge: Listen) -> str:
    """As it stands in a ``docker push`` on this machine."""
    reached = "localhost" if edge.host in {"0.0.0.0", "::", "127.0.0.1", "::1"} else edge.host  # noqa: S104  # shown, not bound
    return str(Listen(reached, edge.port))
