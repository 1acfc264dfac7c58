"""Manifest bodies that stall keep nobody else from pushing, and nobody from reading (H87)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from immuproxy.edge.bodies import ROOM
from immuproxy.oci.manifests import MAX_MANIFEST_BYTES, OCI_MANIFEST
from tests.support.conversation import Client, image
from tests.support.servers import RedisServer, RegistryServer
from tests.support.side_by_side import LIMIT, REPOSITORY, slowdown, two_proxies
from tests.support.wire import request, wire

STALLED = 66


@pytest.mark.timeout(180)
async def test_h87_stalled_bodies_shut_nobody_out_and_slow_no_reads(
    start_registry: Callable[..., RegistryServer], start_redis: Callable[..., RedisServer]
) -> None:
    assert STALLED * MAX_MANIFEST_BYTES > ROOM
    head = request(
        "PUT",
        f"/v2/{REPOSITORY}/manifests/9.0",
        [("Content-Type", OCI_MANIFEST), ("Content-Length", str(MAX_MANIFEST_BYTES))],
    )
    async with (
        two_proxies(start_registry, start_redis) as (attacked, quiet, session),
        contextlib.AsyncExitStack() as stack,
    ):
        client, pushed = Client(attacked.url, session), image("small")
        await client.blobs(REPOSITORY, pushed)
        for _ in range(STALLED):
            line = await stack.enter_async_context(wire(attacked.edge_port))
            await line.send(head + b" " * (MAX_MANIFEST_BYTES - 1))
        assert (await client.put(REPOSITORY, "2.0", pushed)).status == 201
        assert await slowdown(attacked, quiet, session) < LIMIT
