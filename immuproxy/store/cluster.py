"""The connections to a Redis cluster, and commands that have to travel together to one of its nodes, on one of them.

WAIT and WAITAOF speak of the writes of their own connection (their manual, "Consistency and WAIT").  The cluster client
has no such connection to lend, but it sends what a pipeline holds for one node on one, as long as it follows no
redirection: that would send the commands again one by one, each on a connection of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from redis import exceptions
from redis.asyncio import Connection, RedisCluster
from redis.exceptions import ClusterDownError, MovedError, RedisError, SlotNotCoveredError

Command = Sequence[str | bytes | int]

_TRIED = 64
"""Keys among which each node of a cluster of usual size has one."""

MOVES = 3
"""How often a slot may turn out to have moved before it is given up for now."""


def connect_by(client: RedisCluster, kind: type[Connection], **options: Any) -> None:
    """Let a client that has not connected yet make its connections so, with more options."""
    client.connection_kwargs |= {"connection_class": kind, **options}  # of nodes that are found
    for node in client.nodes_manager.startup_nodes.values():
        node.connection_class = kind
        node.connection_kwargs |= options


async def in_cluster(client: RedisCluster, key: str, commands: Sequence[Command]) -> list[Any]:
    """The replies of ``commands`` from the node that holds ``key``; raises `RedisError`.

    Where the slot has moved nothing was executed, so they are sent to the node that it moved to.
    """
    await client.initialize()
    for _ in range(MOVES):
        try:
            return await _together(client, key, commands)
        except MovedError as moved:
            await client.nodes_manager.move_slot(moved)
        except (exceptions.ConnectionError, exceptions.TimeoutError, ClusterDownError, SlotNotCoveredError):
            # A plain command lets the client find out by itself who has taken over.
            with contextlib.suppress(RedisError):
                await client.exists(key)
            raise
    return await _together(client, key, commands)


async def key_for_each_node(client: RedisCluster, key: Callable[[int], str]) -> list[str]:
    """One of the numbered keys for each node that has slots; raises `RedisError`."""
    await client.initialize()
    nodes = {client.get_node_from_key(key(number)): key(number) for number in range(_TRIED)}
    return list(nodes.values())


async def _together(client: RedisCluster, key: str, commands: Sequence[Command]) -> list[Any]:
    node = client.get_node_from_key(key)
    async with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command, target_nodes=node)
        return await pipeline.execute(allow_redirections=False)
