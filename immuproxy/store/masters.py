"""Whose word counts in a cluster (H132).

A master that stood still for a while does not know that another one has taken over: it answers what has waited for it,
and who comes first, by what it held before.  Nobody is chosen in place of one that answers.  So each master is asked
for a sign of life all the time, and what one says that was silent counts only after half of the masters have said,
asked just then, that it is one of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Connection, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.exceptions import ConnectionError as BrokenConnectionError
from redis.exceptions import NoPermissionError

from immuproxy.store import cancelling, steady
from immuproxy.store.cluster import connect_by
from immuproxy.store.shared import Shared
from immuproxy.store.tls import SharingConnection

PULSE = 0.1
"""Seconds between two questions to each master whether it lives."""

QUIET = 0.5
"""Seconds of silence after which its word has to be confirmed.

Redis chooses another master no sooner than ``cluster-node-timeout`` (15 s unless it is set) after one fell silent.
"""

LONGEST = 1.0
"""Seconds that a node may take for an answer to these questions."""

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class View:
    """What one node knows: who it is, which masters have slots, and of which of these it has no doubt."""

    me: str
    masters: frozenset[str]
    sound: frozenset[str]


class Masters:
    """The masters of one cluster, as long as `watch` runs."""

    def __init__(self, cluster: RedisCluster, options: Mapping[str, Any]) -> None:
        """``options`` as of the connections of ``cluster``, whose list of nodes may be old."""
        self._cluster = cluster
        self._options = options
        self._nodes: dict[Address, ClusterNode] = {}
        self._alive: dict[Address, float] = {}
        self._refused: Exception | None = None
        self._asking = Shared(self._ask)

    async def check(self, address: Address) -> None:
        """Return where what this node has just said is true; raises `RedisError` where it may be no master any more."""
        if not self._is_alive(address) and address in self._known():
            await self._confirm(address)

    async def watch(self) -> None:
        """Ask all masters for signs of life, for ever; cancel it to stop."""
        pulses: dict[Address, asyncio.Task[None]] = {}
        try:
            while True:
                for address in self._known():
                    if address not in pulses or pulses[address].done():
                        pulses[address] = asyncio.create_task(self._pulse(address))
                await asyncio.sleep(PULSE)
        finally:
            await cancelling.end([*pulses.values(), *self._asking.tasks])
            for node in self._nodes.values():
                await node.disconnect()

    def _known(self) -> set[Address]:
        return {(node.host, int(node.port)) for node in self._cluster.get_primaries()}

    def _is_alive(self, address: Address) -> bool:
        """Whether it has answered what was asked a moment ago, and was not silent for long since it was confirmed."""
        return address in self._alive and steady.now() - self._alive[address] <= QUIET

    async def _pulse(self, address: Address) -> None:
        asked_at = steady.now()
        with suppress(Exception):  # one that is away is asked again; redis-py fails in many ways
            await self._node(address).execute_command("PING")
            if self._is_alive(address):
                self._alive[address] = asked_at
            else:
                await self._confirm(address)

    async def _confirm(self, address: Address) -> None:
        """Ask all anew, once for all who come meanwhile."""
        await self._asking.ask_anew()
        if not self._is_alive(address):
            raise self._refused or BrokenConnectionError("it was silent, and may be no master any more")

    async def _ask(self) -> None:
        asked_at = steady.now()
        addresses = list(self._known())
        told = await asyncio.gather(*map(self._view, addresses), return_exceptions=True)
        self._refused = next((error for error in told if isinstance(error, NoPermissionError)), None)
        views = {address: view for address, view in zip(addresses, told, strict=True) if isinstance(view, View)}
        self._alive = {address: max(asked_at, self._alive.get(address, 0.0)) for address in chosen(views)}

    async def _view(self, address: Address) -> View:
        return view(await self._node(address).execute_command("CLUSTER NODES"))

    def _node(self, address: Address) -> ClusterNode:
        if address not in self._nodes:
            self._nodes[address] = ClusterNode(*address, **self._options)
        return self._nodes[address]


def view(told: bytes) -> View:
    """Read the reply to CLUSTER NODES: a line for each node with id, address, flags, five more, and its slots."""
    lines = [line.split() for line in told.decode().splitlines()]
    flags = {line[0]: set(line[2].split(",")) for line in lines}
    masters = frozenset(line[0] for line in lines if len(line) > 8 and "master" in flags[line[0]])
    sound = frozenset(name for name in masters if not flags[name] & {"fail", "fail?"})
    return View(next(name for name in flags if "myself" in flags[name]), masters, sound)


def chosen(views: Mapping[Address, View]) -> set[Address]:
    """Of those that answered, the ones that nobody can have been chosen in place of.

    That takes the votes of more than half of all masters, and of none that has no doubt of the old one: whoever voted
    has found it to fail, and says so for longer than this takes.
    """
    masters = max((len(each.masters) for each in views.values()), default=0)
    words = [each.sound for each in views.values() if each.me in each.masters]
    return {address for address, each in views.items() if 2 * sum(each.me in word for word in words) >= masters}


class _Checked(Connection):
    """A connection to a node of a cluster, whose replies count as long as its word does."""

    def __init__(self, *, masters: Masters, **options: Any) -> None:
        """``options`` as of redis-py's connection."""
        super().__init__(**options)
        self._masters = masters

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        """As of the base; raises `RedisError` where it may be untrue.

        Other replies may still be on their way, and must not be taken for those of whoever asks next (H66).
        """
        reply = await super().read_response(*arguments, **options)
        try:
            await self._masters.check((self.host, int(self.port)))
        except BaseException:
            await self.disconnect(nowait=True)
            raise
        return reply


class CheckedTLSConnection(_Checked, SharingConnection):
    """The same over TLS."""


@asynccontextmanager
async def watching(cluster: RedisCluster) -> AsyncIterator[None]:
    """Let nothing count that may be untrue, of a client that has not connected yet."""
    options = cluster.connection_kwargs
    asking = {**options, "response_callbacks": {}, "socket_timeout": LONGEST, "socket_connect_timeout": LONGEST}
    masters = Masters(cluster, asking)
    kind = CheckedTLSConnection if issubclass(options["connection_class"], SharingConnection) else _Checked
    connect_by(cluster, kind, masters=masters)
    task = asyncio.create_task(masters.watch())
    try:
        yield
    finally:
        await cancelling.end({task})
