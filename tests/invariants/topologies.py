"""The forms of Redis under a soak: one server, a master with replicas behind Sentinels, a cluster.

What is said here of who is the master serves to choose whom to hit, and to see when another has taken over; the proxies
find out by themselves.  All methods block.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from redis import Redis
from redis.exceptions import RedisError

from tests.support.clusters import cluster_settings, cluster_url, form_cluster, is_whole
from tests.support.servers import RedisServer, Server, free_port, make_redis, program, wait_until

DOWN_AFTER = 1000
"""Milliseconds of silence after which a master counts as gone."""

FAILOVERS = ("fail_over", "kill_master", "freeze_master")


class Topology(Protocol):
    """``url`` and ``wait`` as in the configuration; ``servers`` hold data, ``watchers`` none; ``faults``: its own."""

    url: str

    @property
    def wait(self) -> Mapping[str, Any]: ...

    @property
    def servers(self) -> Sequence[RedisServer]: ...

    @property
    def watchers(self) -> Sequence[Server]: ...

    @property
    def faults(self) -> tuple[str, ...]: ...

    def form(self) -> None:
        """Make one ledger of the servers, which run."""

    def masters(self) -> list[RedisServer]:
        """Those that may be written to."""

    def has_replaced(self, server: RedisServer) -> bool:
        """Whether another is the master in its place."""

    def fail_over(self, chance: random.Random) -> None:
        """Begin to make a replica the master, while all run."""

    def is_whole(self) -> bool:
        """Whether each master has a replica that follows it, so that the next one may be hit."""

    def order(self) -> str:
        """Who follows whom by each server's own word, and how far it has come, for people."""


class Single:
    """One server."""

    wait: Mapping[str, Any] = {}
    watchers: Sequence[Server] = ()
    faults: tuple[str, ...] = ("kill_redis",)

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        """``settings`` of Redis."""
        self.servers = [make_redis(_folder(folder, "redis"), more=settings)]
        self.url = self.servers[0].url

    def form(self) -> None:
        """It is one already."""

    def masters(self) -> list[RedisServer]:
        return [*self.servers]

    def has_replaced(self, server: RedisServer) -> bool:
        return False

    def fail_over(self, chance: random.Random) -> None:
        raise NotImplementedError("there is no other")

    def is_whole(self) -> bool:
        return True

    def order(self) -> str:
        return _order(self.servers)


class Sentinels:
    """A master, two replicas, and three Sentinels, two of which have to agree."""

    wait: Mapping[str, Any] = {"replicas": 1}
    faults = FAILOVERS

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        more = {**settings, "repl-diskless-sync-delay": "0"}
        self.servers = [make_redis(_folder(folder, f"redis{number}"), more=more) for number in range(3)]
        self._sentinels = [self._sentinel(_folder(folder, f"sentinel{number}")) for number in range(3)]
        self.watchers: Sequence[RedisServer] = self._sentinels
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self._sentinels)
        self.url = f"redis+sentinel://{hosts}/ledger"

    def _sentinel(self, folder: Path) -> RedisServer:
        port = free_port()
        config = folder / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\nsentinel monitor ledger 127.0.0.1 {self.servers[0].port} 2\n"
            f"sentinel down-after-milliseconds ledger {DOWN_AFTER}\nsentinel failover-timeout ledger 4000\n"
        )
        return RedisServer(
            name="sentinel",
            command=[program("redis-server"), str(config), "--sentinel"],
            log_path=folder / "sentinel.log",
            ready_text="+monitor",
            directory=folder,
            port=port,
        )

    def form(self) -> None:
        for server in self.servers[1:]:
            with _client(server) as client:
                client.replicaof("127.0.0.1", self.servers[0].port)
        wait_until(self._is_known, "the Sentinels to know all others", seconds=40)

    def _is_known(self) -> bool:
        states = [self._state(sentinel) for sentinel in self._sentinels]
        return all(
            state and int(state["num-slaves"]) == 2 and int(state["num-other-sentinels"]) == 2 for state in states
        )

    def masters(self) -> list[RedisServer]:
        named = {int(state["port"]) for state in map(self._state, self._sentinels) if state}
        return [server for server in self.servers if len(named) == 1 and server.port in named]

    def has_replaced(self, server: RedisServer) -> bool:
        masters = self.masters()
        return bool(masters) and server not in masters and _role(masters[0]) == "master"

    def fail_over(self, chance: random.Random) -> None:
        with contextlib.suppress(RedisError), _client(chance.choice(self._sentinels)) as client:
            client.execute_command("SENTINEL", "FAILOVER", "ledger")

    def is_whole(self) -> bool:
        masters = self.masters()
        return bool(masters) and _is_followed(masters[0])

    def order(self) -> str:
        return _order(self.servers)

    def _state(self, sentinel: RedisServer) -> Mapping[str, Any]:
        with contextlib.suppress(RedisError), _client(sentinel) as client:
            found: Mapping[str, Any] = client.sentinel_master("ledger")
            return found
        return {}


class Cluster:
    """Three masters with a replica each."""

    wait: Mapping[str, Any] = {"replicas": 1}
    watchers: Sequence[Server] = ()
    faults = FAILOVERS

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.servers = [
            make_redis(_folder(folder, f"redis{number}"), more={**settings, **cluster_settings(DOWN_AFTER)})
            for number in range(6)
        ]
        self.url = cluster_url(self.servers)

    def form(self) -> None:
        form_cluster(self.servers, masters=3, followed=range(3))

    def masters(self) -> list[RedisServer]:
        return self._with_slots(self.servers)

    def has_replaced(self, server: RedisServer) -> bool:
        others = [other for other in self.servers if other is not server]
        masters = self._with_slots(others)
        return len(masters) == 3 and server not in masters

    def fail_over(self, chance: random.Random) -> None:
        """It fails where its master is not reached, and at a master."""
        masters = self.masters()
        with contextlib.suppress(RedisError, IndexError):
            replica = chance.choice([server for server in self.servers if server not in masters])
            with _client(replica) as client:
                client.execute_command("CLUSTER", "FAILOVER")

    def is_whole(self) -> bool:
        masters = self.masters()
        return len(masters) == 3 and all(map(_is_followed, masters)) and all(map(_finds_whole, self.servers))

    def order(self) -> str:
        return _order(self.servers)

    def _with_slots(self, asked: Sequence[RedisServer]) -> list[RedisServer]:
        """As the one of those asked sees it that has the newest configuration."""
        views = [view for view in map(_nodes, asked) if view]
        if not views:
            return []
        newest = max(views, key=_epoch)
        return [server for server in self.servers if newest.get(f"127.0.0.1:{server.port}", {}).get("slots")]


TOPOLOGIES: Mapping[str, Callable[[Path, Mapping[str, str]], Topology]] = {
    "single": Single,
    "sentinel": Sentinels,
    "cluster": Cluster,
}


def _folder(where: Path, name: str) -> Path:
    (where / name).mkdir()
    return where / name


def _client(server: RedisServer) -> Redis:
    return Redis(port=server.port, socket_timeout=0.5, socket_connect_timeout=0.5)


def _role(server: RedisServer) -> str:
    return str(_replication(server).get("role", ""))


def _replication(server: RedisServer) -> Mapping[str, Any]:
    with contextlib.suppress(RedisError), _client(server) as client:
        found: Mapping[str, Any] = client.info("replication")
        return found
    return {}


def _order(servers: Sequence[RedisServer]) -> str:
    names = {server.port: server.directory.name for server in servers}
    return ", ".join(_place(server, names) for server in servers)


def _place(server: RedisServer, names: Mapping[int, str]) -> str:
    found = _replication(server)
    name, at = server.directory.name, found.get("master_repl_offset", "?")
    if found.get("role") == "slave":
        return f"{name} after {names.get(found['master_port'])} ({found['master_link_status']}) at {at}"
    return f"{name} {found.get('role', 'silent')} at {at}"


def _is_followed(master: RedisServer) -> bool:
    found = _replication(master)
    replicas = [found[f"slave{number}"] for number in range(found.get("connected_slaves", 0))]
    return any(replica["state"] == "online" and replica["lag"] <= 1 for replica in replicas)


def _nodes(server: RedisServer) -> Mapping[str, Any]:
    with contextlib.suppress(RedisError), _client(server) as client:
        found: Mapping[str, Any] = client.execute_command("CLUSTER NODES")
        return found
    return {}


def _epoch(view: Mapping[str, Any]) -> int:
    return max(int(node["epoch"]) for node in view.values())


def _finds_whole(server: RedisServer) -> bool:
    with _client(server) as client:
        return is_whole(client)
