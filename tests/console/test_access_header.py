"""A proxy in front says who it is: believed from that proxy only, and only when it says one thing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from pydantic import ValidationError

from immuproxy.console.settings import ConsoleAuth
from immuproxy.console.sources import Sources
from immuproxy.store.redis import Store
from tests.console.logging_in import Client, console_for
from tests.support.wire import ask, request

TRUSTED = "127.0.0.2"


def auth(**more: Any) -> ConsoleAuth:
    usual = {
        "identity_header": "X-Forwarded-User",
        "groups_header": "X-Forwarded-Groups",
        "trusted_proxies": [f"{TRUSTED}/32"],
        "administrators": ["anna"],
        "administrator_groups": ["platform"],
    }
    return ConsoleAuth.model_validate(usual | more)


@pytest.fixture
async def client(sources: Sources, store: Store) -> AsyncIterator[Client]:
    async with console_for(sources, store, auth()) as opened:
        yield opened


@pytest.fixture
async def proxy(client: Client) -> AsyncIterator[aiohttp.ClientSession]:
    """Speaks from the address of the trusted proxy."""
    connector = aiohttp.TCPConnector(local_addr=(TRUSTED, 0))
    async with aiohttp.ClientSession(client.make_url("/"), connector=connector) as session:
        yield session


async def test_the_proxy_names_the_viewer_and_his_role(proxy: aiohttp.ClientSession) -> None:
    for headers, name, role in (
        ({"X-Forwarded-User": "vera"}, "vera", "viewer"),
        ({"X-Forwarded-User": "anna"}, "anna", "administrator"),
        ({"x-forwarded-user": " anna "}, "anna", "administrator"),
        ({"X-Forwarded-User": "vera", "X-Forwarded-Groups": "a, platform"}, "vera", "administrator"),
        ({"X-Forwarded-User": "vera", "X-Forwarded-Groups": "a,platforms,,"}, "vera", "viewer"),
        ({"X-Forwarded-User": "Anna"}, "Anna", "viewer"),
        ({"X-Forwarded-User": "vera, anna"}, "vera, anna", "viewer"),
        ({"X-Forwarded-User": "platform"}, "platform", "viewer"),
        ({"X-Forwarded-User": "jürgen"}, "jürgen", "viewer"),
    ):
        async with proxy.get("/api/v1/viewer", headers=headers) as response:
            assert await response.json() == {"name": name, "role": role}, headers
    async with proxy.get("/", headers={"X-Forwarded-User": "anna"}) as response:
        page = await response.text()
    assert "anna" in page
    assert "Log out" not in page, "the proxy in front logs out"


async def test_it_is_the_proxy_that_is_trusted_and_not_the_client_behind_it(proxy: aiohttp.ClientSession) -> None:
    headers = {"X-Forwarded-User": "vera", "X-Forwarded-For": "203.0.113.9"}
    async with proxy.get("/api/v1/viewer", headers=headers) as response:
        assert response.status == 200


async def test_nobody_named_is_nobody(proxy: aiohttp.ClientSession) -> None:
    for headers in ({}, {"X-Forwarded-User": ""}, {"X-Forwarded-User": "  "}, {"X_Forwarded_User": "anna"}):
        for path in ("/", "/api/v1/viewer"):
            async with proxy.get(path, headers=headers, allow_redirects=False) as response:
                assert response.status == 401
                assert "Basic" not in response.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Forwarded-For": TRUSTED},
        {"X-Forwarded-For": f"{TRUSTED}, {TRUSTED}"},
        {"X-Real-IP": TRUSTED},
        {"Forwarded": f"for={TRUSTED}"},
        {"Host": TRUSTED},
        {"Authorization": "Basic YW5uYTphbm5h"},
    ],
)
async def test_the_header_counts_from_nobody_else(client: Client, headers: dict[str, str]) -> None:
    for path in ("/", "/audit", "/api/v1/events", "/api/v1/live"):
        async with client.get(path, headers={"X-Forwarded-User": "anna"} | headers, allow_redirects=False) as response:
            assert response.status == 403
            assert "anna" not in await response.text()


async def test_machines_that_watch_need_not_come_through_the_proxy(client: Client) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        async with client.get(path) as response:
            assert response.status == 200
    async with client.get("/log-in") as response:
        assert response.status == 403, "there is no log-in page here"


@pytest.mark.parametrize(
    "twice",
    [
        (("X-Forwarded-User", "anna"), ("X-Forwarded-User", "vera")),
        (("X-Forwarded-User", "anna"), ("x-forwarded-user", "anna")),
        (("X-Forwarded-User", "vera"), ("X-Forwarded-Groups", "platform"), ("x-forwarded-groups", "a")),
        (("X-Forwarded-User", "a" * 300),),
        (("X-Forwarded-User", "an\udce2\udc80\udc8bna"),),
        (("X-Forwarded-User", "an\tna"),),
    ],
)
async def test_a_proxy_that_lets_the_clients_header_through_is_noticed(
    sources: Sources, store: Store, twice: tuple[tuple[str, str], ...]
) -> None:
    async with console_for(sources, store, auth(trusted_proxies=["127.0.0.1"])) as client:
        assert client.port
        answer = await ask(client.port, request("GET", "/api/v1/viewer", twice))
    assert answer.status == 403
    assert b"ambiguous_identity" in answer.body


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trusted_proxies": []}, "needs trusted_proxies"),
        ({"identity_header": "X User"}, "no name of a header"),
        ({"identity_header": "Authorization"}, "every client sends"),
        ({"groups_header": "X-Forwarded-For"}, "every client sends"),
        ({"groups_header": None}, "administrator_groups needs groups_header"),
        ({"identity_header": None, "users_file": "users"}, "groups_header belongs to identity_header"),
        ({"users_file": "users"}, "exactly one of"),
        ({"sessions": {"idle": "8d"}}, "idle is longer than longest"),
        ({"metrics": "maybe"}, "open"),
    ],
)
def test_settings_that_would_not_hold_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        auth(**settings)
