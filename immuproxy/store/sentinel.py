"""Following the Sentinels of a master: whose word counts, and for how long (H99).

After a promotion the old master goes on answering as a master, for about ten seconds, until a Sentinel tells it
otherwise; what it says is then untrue, and what it is told is lost.  So an address counts only as long as a Sentinel
has given it a moment ago, all connections to any other are dropped, and while a failover is under way none counts.

Sentinels may disagree: the highest configuration epoch wins ("Consistency properties of Sentinel", Redis manual).  One
that fell silent in a failover may have promoted a replica of which the others have not heard, so what those say of the
same configuration does not count either (H122).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

import structlog
from redis.asyncio import Connection, ConnectionPool, Redis
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import ConnectionError as BrokenConnectionError
from redis.exceptions import RedisError

from immuproxy.store import cancelling, steady
from immuproxy.store.shared import Shared
from immuproxy.store.urls import SentinelAddress

log = structlog.get_logger("immuproxy.ledger")

Address = tuple[str, int]

ASKED_EVERY = 0.5
"""Seconds between two questions to each Sentinel, where it tells of nothing in between."""

FRESH = 2.0
"""Seconds for which a Sentinel's word counts, from when it was asked."""

REMEMBERED = 30.0
"""Seconds for which a Sentinel with an older configuration is not believed any more, once there was a newer one, and
none with the same one, once a failover was under way that has not been heard to end.
"""

ROLE_EVERY = 1.0
"""Seconds after which a connection is asked again whether its server is a master."""

LONGEST = 1.0
"""Seconds that a Sentinel may take for an answer."""


@dataclass(frozen=True, slots=True)
class Said:
    """A Sentinel's word: the configuration epoch, the master (None: a failover is under way), and when it was asked."""

    epoch: int
    master: Address | None
    at: float


class Sentinels:
    """What the Sentinels say of one master."""

    def __init__(self, clients: Sequence[Redis], name: str) -> None:
        """``clients``: one for each Sentinel; ``name``: of the master."""
        self._clients = clients
        self._name = name
        self._said: dict[int, Said] = {}
        self._asking = Shared(self._ask_all)
        self._last: Address | None = None
        self.dropped: Callable[[], Awaitable[None]] | None = None
        """Drops all connections to the ledger."""

    def master(self) -> Address:
        """The address that counts now; raises `MasterNotFoundError`."""
        now = steady.now()
        known = [said for said in self._said.values() if now - said.at < REMEMBERED]
        newest = max((said.epoch for said in known), default=0)
        newest_words = [said for said in known if said.epoch == newest]
        fresh = {said.master for said in newest_words if now - said.at < FRESH}
        changing = any(said.master is None for said in newest_words)  # however long ago (H122)
        if not fresh:
            raise MasterNotFoundError(f"no Sentinel has said lately who is the master {self._name!r}")
        if changing or len(fresh) > 1:
            raise MasterNotFoundError(f"the Sentinels choose a new master {self._name!r}")
        return cast("Address", fresh.pop())

    async def current(self) -> Address:
        """As `master`; asks first where nobody has said it lately, once for all who come meanwhile."""
        try:
            return self.master()
        except MasterNotFoundError:
            await self.ask()
            return self.master()

    async def confirm(self) -> Address:
        """As `master`, after a question that was asked just now."""
        await self._asking.ask_anew()
        return self.master()

    async def ask(self) -> None:
        """Ask all Sentinels; those that do not answer are left out."""
        await self._asking.ask()

    async def _ask_all(self) -> None:
        await asyncio.gather(*(self._ask(client) for client in self._clients), return_exceptions=True)

    async def _ask(self, client: Redis) -> None:
        asked_at = steady.now()
        async with asyncio.timeout(LONGEST), client.pipeline(transaction=False) as pipeline:
            pipeline.execute_command("SENTINEL", "MASTER", self._name)
            pipeline.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
            state, address = await pipeline.execute()
        self._said[id(client)] = _said(_fields(state), (address[0].decode(), int(address[1])), asked_at)
        await self._see()

    async def _see(self) -> None:
        """Drop what leads elsewhere, as soon as that is known."""
        try:
            found = self.master()
        except MasterNotFoundError:
            found = None
        before, self._last = self._last, found
        if before is None or found == before or self.dropped is None:
            return
        log.warning("the ledger's master changes", master=found and f"{found[0]}:{found[1]}")
        with suppress(Exception):  # of connections that are given up, nothing matters
            await self.dropped()

    async def follow(self) -> None:
        """Listen to all Sentinels for ever; cancel it to stop."""
        await asyncio.gather(*(self._follow(client) for client in self._clients))

    async def _follow(self, client: Redis) -> None:
        while True:
            with suppress(Exception):  # a Sentinel that is away is asked again; redis-py fails in many ways
                await self._listen(client)
            await asyncio.sleep(ASKED_EVERY)

    async def _listen(self, client: Redis) -> None:
        """Ask whenever it tells of anything, above all ``+switch-master``, and from time to time."""
        async with client.pubsub() as events:
            await events.psubscribe("*")
            while True:
                await self._ask(client)
                await events.get_message(ignore_subscribe_messages=True, timeout=ASKED_EVERY)


def _fields(state: Any) -> Mapping[bytes, bytes]:
    """The reply to SENTINEL MASTER, which is a map or, in the older protocol, a flat list."""
    return state if isinstance(state, dict) else dict(zip(state[::2], state[1::2], strict=True))


def _said(fields: Mapping[bytes, bytes], address: Address, at: float) -> Said:
    """A Sentinel that has promoted a replica gives its address before it ends the failover.

    One that only takes the master for down (``o_down``) may be wrong; before it promotes another it begins a failover.
    """
    flags = fields[b"flags"].split(b",")
    changing = b"failover_in_progress" in flags
    promoted = address != (fields[b"ip"].decode(), int(fields[b"port"]))
    return Said(int(fields[b"config-epoch"]), address if promoted or not changing else None, at)


class MasterConnection(Connection):
    """A connection to whoever is the master; the pool calls `connect` each time it lends it."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        """``options`` as of redis-py's connection."""
        super().__init__(**options)
        self._sentinels = sentinels
        self._asked_at = 0.0

    async def connect(self) -> None:
        """Be connected to the master, which said so itself a moment ago."""
        address = await self._sentinels.current()
        if self.is_connected and (self.host, self.port) != address:
            await self.disconnect(nowait=True)
        if not self.is_connected:
            self.host, self.port = address
            self._asked_at = 0.0
            await super().connect()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        if steady.now() - self._asked_at >= ROLE_EVERY:
            await self._check_role()

    async def _check_role(self) -> None:
        asked_at = steady.now()
        await self.send_command("ROLE", check_health=False)
        role = await self.read_response()
        if role[0] not in {b"master", "master"}:
            await self.disconnect(nowait=True)
            raise BrokenConnectionError("it is no master any more")
        self._asked_at = asked_at

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002
        """Send to the master or not at all: the base would connect again to where it was."""
        if not self.is_connected or (self.host, self.port) != self._sentinels.master():
            await self.disconnect(nowait=True)
            raise BrokenConnectionError("the master has changed")
        await super().send_packed_command(command, check_health)


@asynccontextmanager
async def following(address: SentinelAddress, options: Mapping[str, Any]) -> AsyncIterator[tuple[Redis, Sentinels]]:
    """A client of the master, whoever that is; ``options`` as of redis-py's connections."""
    limits = {**options, "socket_timeout": LONGEST, "socket_connect_timeout": LONGEST}
    clients = [Redis(host=host, port=port, **limits) for host, port in address.sentinels]
    sentinels = Sentinels(clients, address.master)
    pool = ConnectionPool(
        connection_class=MasterConnection,
        sentinels=sentinels,
        db=address.database,
        username=address.username,
        password=address.password,
        **options,
    )
    sentinels.dropped = pool.disconnect
    task = asyncio.create_task(sentinels.follow())
    try:
        yield Redis.from_pool(pool), sentinels
    finally:
        await cancelling.end({task})
        for client in clients:
            with suppress(RedisError):  # one that hangs keeps nobody from leaving
                await client.aclose()
