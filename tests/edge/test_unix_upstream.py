"""A registry that only a Unix socket leads to, so that nobody but the proxy reaches it (H57)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from immuproxy.drift.service import service_caller
from immuproxy.edge import listing
from immuproxy.edge.settings import Timeouts
from immuproxy.edge.tokens import AccountUpstream
from immuproxy.edge.upstream import Found, UpstreamUnavailableError, opened
from tests.support.conversation import edge_over, image
from tests.support.servers import RedisServer, RegistryServer, make_registry, running
from tests.support.tokens import running_token_server

CALLER = service_caller("immuproxy", "secret")


def on_socket(directory: Path, **options: Any) -> RegistryServer:
    settings = {"http": {"net": "unix", "addr": str(directory / "registry.sock")}}
    server = make_registry(directory, more=settings, **options)
    server.ready_text = "listening on"
    return server


@pytest.fixture
def socket() -> Iterator[str]:
    with running(on_socket, None) as server:
        yield f"unix://{server.directory}/registry.sock"


async def test_h57_push_pull_list_and_delete_go_through_the_socket(socket: str, redis_server: RedisServer) -> None:
    one, two = image("one"), image("two")
    async with edge_over(socket, redis_server.url) as edge:
        begun = await edge.client.ask("POST", "/v2/team/app/blobs/uploads/")
        assert begun.headers["Location"].startswith(f"http://127.0.0.1:{edge.port}/v2/team/app/blobs/uploads/")
        assert (await edge.client.push("team/app", "1.0", one)).status == 201
        assert (await edge.client.push("team/app", "1.0", two)).status == 409
        assert (await edge.client.push("team/app", "latest", two)).status == 201
        assert (await edge.client.pull("team/app", "1.0")).digest == one.digest
        assert b"latest" in (await edge.client.ask("GET", "/v2/team/app/tags/list")).body
        assert (await edge.client.ask("DELETE", f"/v2/team/app/manifests/{one.digest}")).status == 405
        assert (await edge.client.ask("DELETE", f"/v2/team/app/manifests/{two.digest}")).status == 202


async def test_a_token_server_is_reached_as_ever(tmp_path: Path) -> None:
    with (
        running_token_server("immuproxy", "secret") as tokens,
        running(lambda where: on_socket(where, token=tokens.issuer), None) as server,
    ):
        async with opened(f"unix://{server.directory}/registry.sock", timeouts=Timeouts()) as upstream:
            account = AccountUpstream(upstream, "immuproxy", "secret")
            sent = CALLER.headers.copy()
            begun = await account.exchange("POST", "/v2/team/app/blobs/uploads/", sent)
            assert begun.status == 202
            with pytest.raises(listing.ListingRefusedError):
                await listing.tags(upstream, "team/app", CALLER)


async def test_a_socket_that_is_not_there_is_an_upstream_that_does_not_answer(tmp_path: Path) -> None:
    async with opened(f"unix://{tmp_path}/none.sock", timeouts=Timeouts()) as upstream:
        with pytest.raises(UpstreamUnavailableError, match="no connection to it"):
            assert not isinstance(await upstream.probe("team/app", "1.0", CALLER), Found)
