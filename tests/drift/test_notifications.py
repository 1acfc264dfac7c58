"""The registry's notifications make the proxy look, and nothing more (H58)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from immuproxy.drift import notifications as endpoint
from immuproxy.drift.notifications import MAX_BODY, MAX_EVENTS, PATH, RATE, Hint, Notifications, read
from immuproxy.ledger.model import Action
from tests.support.conversation import Client, RunningEdge, edge_over, image
from tests.support.proxies import running_proxy
from tests.support.servers import RedisServer, RegistryServer, free_port
from tests.support.wire import request, wire


def envelope(*events: Any) -> bytes:
    return json.dumps({"events": events}).encode()


def event(action: str, **target: str) -> dict[str, Any]:
    return {"action": action, "target": {"repository": "team/app", **target}}


def test_pushes_and_deletes_are_hints_and_pulls_are_not() -> None:
    digest = image("one").digest
    body = envelope(
        event("push", tag="1.0", digest=digest),
        event("pull", tag="1.0"),
        event("delete", tag="2.0"),
        event("delete", digest=digest),
        event("push", digest=digest),
        event("push", tag="../etc"),
        {"action": "push", "target": {"repository": "Team/App", "tag": "1.0"}},
    )
    assert read(body) == [
        Hint("team/app", tag="1.0", digest=digest),
        Hint("team/app", tag="2.0"),
        Hint("team/app", digest=digest),
    ]


@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_whatever_comes_it_is_read_or_refused(value: Any) -> None:
    for body in (json.dumps(value).encode(), envelope(value), json.dumps({"events": value}).encode()):
        with contextlib.suppress(ValueError):
            assert isinstance(read(body), list)


def telling(url: str, token: str = "") -> dict[str, Any]:
    """The part of a registry's configuration by which it tells of every push."""
    endpoint = {
        "name": "immuproxy",
        "url": url,
        "timeout": "1s",
        "threshold": 3,
        "backoff": "100ms",
        "ignore": {"actions": ["pull"]},
        "headers": {"Authorization": [f"Bearer {token}"]} if token else {},
    }
    return {"notifications": {"endpoints": [endpoint]}}


@pytest.fixture
async def edge(start_registry: Callable[..., RegistryServer], redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    """An edge whose registry tells it of every push."""
    port = free_port()
    registry = start_registry(more=telling(f"http://127.0.0.1:{port}{PATH}"))
    async with edge_over(registry.url, redis_server.url) as running:
        notifications = Notifications(running.parts.register, running.parts.healer)
        app = web.Application()
        app.router.add_post(PATH, notifications.receive)
        following = asyncio.create_task(notifications.run())
        async with TestServer(app, port=port):
            yield running
        following.cancel()


async def test_h58_a_direct_write_is_noticed_and_healed_within_five_seconds(edge: RunningEdge) -> None:
    ours = image("ours")
    await edge.client.push("team/app", "1.0", ours)
    await edge.direct.push("team/app", "1.0", image("other"))
    async with asyncio.timeout(5):
        while not [told for told in await edge.events("team/app") if told.action is Action.REPAIR]:
            await asyncio.sleep(0.02)
    assert (await edge.direct.pull("team/app", "1.0")).digest == ours.digest


async def test_h58_our_own_pushes_and_forged_hints_change_nothing(edge: RunningEdge) -> None:
    ours = image("ours")
    await edge.client.push("team/app", "1.0", ours)
    await asyncio.sleep(1)  # nothing tells that a hint has changed nothing
    assert [told.action for told in await edge.events("team/app")] == [Action.PUSH]


@pytest.mark.parametrize(("padding", "weight"), [(0, 1), (300_000, 5)], ids=["small", "large"])
async def test_h58_a_flood_of_forged_hints_is_followed_at_a_pace_that_the_registry_does_not_feel(
    registry: RegistryServer, redis_server: RedisServer, padding: int, weight: int
) -> None:
    async with edge_over(registry.url, redis_server.url) as edge:
        ours = image("ours")
        ours = replace(ours, body=ours.body.replace(b"{", b'{"annotations": {"pad": "%s"},' % (b"x" * padding), 1))
        assert (await edge.client.push("team/app", "1.0", ours)).status == 201
        notifications = Notifications(edge.parts.register, edge.parts.healer)
        app = web.Application()
        app.router.add_post(PATH, notifications.receive)
        before, forged = registry.log.count('"GET /v2/team/app/manifests/1.0 '), RATE // weight
        async with TestServer(app) as server:
            digests = (image(str(number)).digest for number in range(forged))
            body = envelope(*(event("push", tag="1.0", digest=digest) for digest in digests))
            async with edge.client.session.post(server.make_url(PATH), data=body) as answer:
                assert answer.status == 202
            began = asyncio.get_running_loop().time()
            following = asyncio.create_task(notifications.run())
            async with asyncio.timeout(10):
                while registry.log.count('"GET /v2/team/app/manifests/1.0 ') < before + forged:
                    await asyncio.sleep(0.01)
            following.cancel()
        assert asyncio.get_running_loop().time() - began >= (forged - 1) * weight / RATE


async def test_h86_what_is_too_much_is_not_taken_and_a_registry_tells_it_again(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "MAX_WAITING", 30)
    monkeypatch.setattr(endpoint, "PARSED", 1)
    monkeypatch.setattr(endpoint, "MAX_ARRIVING", 2)
    app = web.Application()
    app.router.add_post(PATH, Notifications(edge.parts.register, edge.parts.healer).receive)
    digests = [image(str(number)).digest for number in range(MAX_EVENTS)]
    body = envelope(*(event("delete", digest=digest) for digest in digests))
    async with TestServer(app) as server, aiohttp.ClientSession() as session:

        async def told(data: bytes | AsyncIterator[bytes]) -> int:
            async with session.post(server.make_url(PATH), data=data) as answer:
                return answer.status

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(MAX_BODY // 65536 + 1):
                yield b" " * 65536

        assert await told(b" " * (MAX_BODY + 1)) == 413
        assert await told(endless()) == 413
        assert await told(b"no envelope" + b" " * (MAX_BODY // 2)) == 400
        assert await told(b"no envelope" + b" " * (MAX_BODY * 3 // 4)) == 429, "so much was parsed a moment ago"
        async with wire(server.port or 0) as one, wire(server.port or 0) as other:
            for line in (one, other):
                await line.send(request("POST", PATH, [("Content-Length", "100")]) + b"half")
            while await told(b"no envelope") == 400:
                await asyncio.sleep(0.005)
            assert await told(body) == 429, "two arrive already"
        while await told(b"no envelope") != 400:
            await asyncio.sleep(0.005)
        assert await told(body) == 202
        assert await told(body) == 429, "no more wait than thirty"


async def test_h58_a_delete_by_digest_makes_the_proxy_look_at_every_tag_that_holds_it(edge: RunningEdge) -> None:
    ours = image("ours")
    for tag in ("1.0", "2.0"):
        await edge.client.push("team/app", tag, ours)
    await edge.client.push("team/app", "3.0", image("other"))
    await edge.direct.ask("DELETE", f"/v2/team/app/manifests/{ours.digest}")
    async with asyncio.timeout(5):
        while {told.tag for told in await edge.events("team/app") if told.action is Action.REPAIR} != {"1.0", "2.0"}:
            await asyncio.sleep(0.02)
    assert (await edge.direct.pull("team/app", "2.0")).digest == ours.digest


async def test_h58_the_service_itself_follows_what_the_registry_tells(
    start_registry: Callable[..., RegistryServer], redis_server: RedisServer, tmp_path: Path
) -> None:
    """The whole of `immuproxy serve`, nobody reading and the sweep minutes away; only who has the token is heard."""
    port, ours = free_port(), image("ours")
    upstream = f"http://127.0.0.1:{port}"
    (tmp_path / "token").write_text("a secret of the two\n")
    more = {"console": {"notifications": {"token_file": str(tmp_path / "token")}}}
    with running_proxy(upstream, {"url": redis_server.url}, ready_path="/healthz", more=more) as proxy:
        start_registry(port=port, more=telling(proxy.console_url + PATH, "a secret of the two"))
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            for sent in ({}, {"Authorization": "Bearer a secret of the three"}, {"Authorization": "Bearer \udcff"}):
                async with session.post(proxy.console_url + PATH, data=envelope(), headers=sent) as answer:
                    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert (await Client(proxy.url, session).push("team/app", "1.0", ours)).status == 201
            direct = Client(upstream, session)
            await direct.push("team/app", "1.0", image("other"))
            async with asyncio.timeout(5):
                while (await direct.pull("team/app", "1.0")).digest != ours.digest:
                    await asyncio.sleep(0.05)
