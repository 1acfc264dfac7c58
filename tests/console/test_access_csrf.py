"""Changes: an administrator's, from a page of this console, and nobody else's."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDict

from immuproxy.console.access import asking, changing, changing_json, event_by
from immuproxy.console.app import LARGEST_BODY
from immuproxy.console.settings import ConsoleAuth
from immuproxy.console.sources import Sources
from immuproxy.ledger.model import Action, ActorSource, Outcome
from immuproxy.store.redis import Store
from tests.console.logging_in import (
    ADMINISTRATOR,
    FROM_HERE,
    PASSWORDS,
    RECORD,
    VIEWER,
    Client,
    console_for,
    log_in,
    users_in,
)
from tests.console.test_access_basic import ANNA, basic

JSON = {"Content-Type": "application/json"}
VERA = basic(VIEWER, PASSWORDS[VIEWER])


async def _change(request: web.Request) -> web.Response:
    viewer, form = await changing(request)
    event = event_by(request, Action.EXCEPTION, Outcome.GRANTED, repository="team/app", tag=form.text("tag", 10))
    await request.app[RECORD].append(event)
    return web.json_response({"by": viewer.name, "event": event.id})


async def _change_json(request: web.Request) -> web.Response:
    viewer, values = await changing_json(request)
    return web.json_response({"by": viewer.name, **values})


async def _ask(request: web.Request) -> web.Response:
    viewer, form = await asking(request)
    return web.json_response({"by": viewer.name, "file": form.files.get("file", b"").decode(), **form.fields})


def _add(app: web.Application) -> None:
    app.router.add_post("/change", _change)
    app.router.add_post("/api/v1/change", _change_json)
    app.router.add_post("/ask", _ask)


@pytest.fixture
async def client(sources: Sources, store: Store, tmp_path: Path) -> AsyncIterator[Client]:
    async with console_for(sources, store, users_in(tmp_path), add=_add) as opened:
        yield opened


@pytest.fixture
async def open_client(sources: Sources, store: Store) -> AsyncIterator[Client]:
    async with console_for(sources, store, None, add=_add) as opened:
        yield opened


async def change(client: Client, headers: Any = FROM_HERE, **more: Any) -> tuple[int, str]:
    async with client.post("/change", data={"tag": "1.0"}, headers=headers, **more) as response:
        return response.status, await response.text()


async def test_an_administrator_changes_something_and_the_audit_knows_him(client: Client, sources: Sources) -> None:
    await log_in(client)
    status, text = await change(client, FROM_HERE | {"User-Agent": "browser"})
    assert status == 200
    event = await sources.audit.event(json.loads(text)["event"])
    assert event
    assert (event.actor, event.actor_source, event.actor_confirmed) == (ADMINISTRATOR, ActorSource.CONSOLE, True)
    assert (event.client_address, event.user_agent, event.tag) == ("127.0.0.1", "browser", "1.0")
    assert event.time > 0
    assert event.request_id


async def test_a_viewer_changes_nothing(client: Client) -> None:
    await log_in(client, VIEWER)
    status, text = await change(client)
    assert status == 403
    assert "vera may look, but not change anything." in text
    async with client.post("/api/v1/change", data="{}", headers=JSON) as response:
        assert response.status == 403
        assert (await response.json())["error"]["code"] == "not_an_administrator"


async def test_in_an_open_console_nobody_changes_anything(open_client: Client) -> None:
    status, text = await change(open_client, FROM_HERE | ANNA)
    assert status == 403
    assert "console.auth" in text
    async with open_client.post("/api/v1/change", data="{}", headers=JSON) as response:
        assert response.status == 403


async def test_a_stranger_changes_nothing(client: Client) -> None:
    assert (await change(client))[0] == 401
    async with client.post("/api/v1/change", data="{}", headers=JSON) as response:
        assert response.status == 401


FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": ""},
    {"Sec-Fetch-Site": "cross-site", "Origin": "{here}"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "{here}.evil.example"},
    {"Origin": "http://evil.example#{here}"},
    {"Origin": "{here}@evil.example"},
    {"Origin": "ftp{here}"},
    {"Origin": "{here}", "Sec-Fetch-Site": "same-site"},
]
OURS = [{"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "{here}"}]


def _filled(headers: dict[str, str], client: Client) -> dict[str, str]:
    here = str(client.make_url("/")).rstrip("/")
    return {name: value.replace("{here}", here) for name, value in headers.items()}


@pytest.mark.parametrize("headers", FOREIGN)
async def test_what_another_site_sends_changes_nothing(client: Client, headers: dict[str, str]) -> None:
    await log_in(client)
    headers = _filled(headers, client)
    assert (await change(client, headers))[0] == 403
    async with client.post("/api/v1/change", data="{}", headers=headers | JSON) as response:
        assert response.status == 403
    async with client.post("/ask", data={"a": "b"}, headers=headers) as response:
        assert response.status == 403
    async with client.post("/log-out", headers=headers) as response:
        assert response.status == 403
    data = {"name": VIEWER, "password": PASSWORDS[VIEWER]}
    async with client.post("/log-in", data=data, headers=headers) as response:
        assert response.status == 403, "nor does it log a browser in as somebody else"


@pytest.mark.parametrize(("name", "ours"), [("Origin", "{here}"), ("Sec-Fetch-Site", "same-origin")])
@pytest.mark.parametrize("first", [True, False])
async def test_of_two_origins_both_must_be_ours(client: Client, name: str, ours: str, first: bool) -> None:
    await log_in(client)
    ours = _filled({name: ours}, client)[name]
    pair = [(name, ours), (name, "https://evil.example")]
    assert (await change(client, CIMultiDict(pair if first else pair[::-1])))[0] == 403


@pytest.mark.parametrize("path", ["/ask", "/log-in", "/api/v1/change"])
@pytest.mark.parametrize(("encoding", "body"), [("gzip", b"\x1f\x8b\x08 no"), ("gzip", b"x" * 40)])
async def test_a_body_that_cannot_be_unpacked_is_the_clients_fault(
    client: Client, path: str, encoding: str, body: bytes
) -> None:
    await log_in(client)
    kind = JSON if "api" in path else {"Content-Type": "application/x-www-form-urlencoded"}
    headers = kind | {"Content-Encoding": encoding, "Content-Length": str(len(body))}
    async with client.post(path, data=body, headers=headers | FROM_HERE) as response:
        assert response.status == 400
        assert "cannot be read" in await response.text()


@pytest.mark.parametrize("headers", OURS)
async def test_what_this_console_sends_does(client: Client, headers: dict[str, str]) -> None:
    await log_in(client)
    assert (await change(client, _filled(headers, client)))[0] == 200


@pytest.mark.parametrize(
    "sent",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "application/jsonp"],
)
async def test_json_that_a_form_of_another_site_could_send_is_refused(client: Client, sent: str) -> None:
    for headers in (ANNA, {}):
        if not headers:
            await log_in(client)
        async with client.post("/api/v1/change", data=b'{"a": 1}', headers={"Content-Type": sent, **headers}) as answer:
            assert answer.status == 415


async def test_no_preflight_of_another_site_is_answered_with_yes(client: Client) -> None:
    await log_in(client)
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    async with client.options("/api/v1/change", headers=asked) as response:
        assert response.status == 405
        assert not any(name.lower().startswith("access-control") for name in response.headers)


async def test_json_changes_with_a_session_or_basic(client: Client) -> None:
    async with client.post("/api/v1/change", data='{"a": 1}', headers=JSON | ANNA) as response:
        assert await response.json() == {"by": ADMINISTRATOR, "a": 1}
    async with client.post("/api/v1/change", data='{"a": 1}', headers=JSON | VERA) as response:
        assert response.status == 403
    await log_in(client)
    async with client.post("/api/v1/change", data='{"a": 2}', headers=JSON) as response:
        assert await response.json() == {"by": ADMINISTRATOR, "a": 2}
    for wrong in ("", "[]", "1", "{", "[" * 100_000, "\xff"):
        async with client.post("/api/v1/change", data=wrong.encode("latin-1"), headers=JSON) as response:
            assert response.status == 400


async def test_a_form_that_says_of_no_site_changes_nothing_whoever_sends_it(client: Client) -> None:
    # A browser sends a password that it was given in an address along with forms of other sites.
    assert (await change(client, ANNA))[0] == 403
    assert (await change(client, ANNA | FROM_HERE))[0] == 200
    async with client.post("/log-in", data={"name": VIEWER, "password": PASSWORDS[VIEWER]}) as response:
        assert response.status == 403
        assert "this one does not" in await response.text()
    await log_in(client)
    assert (await change(client, {}))[0] == 403
    async with client.post("/log-out") as response:
        assert response.status == 403
    assert (await change(client))[0] == 200, "and who did not log out is still in"


async def test_nor_does_one_of_whom_a_proxy_in_front_names(sources: Sources, store: Store) -> None:
    auth = ConsoleAuth.model_validate(
        {"identity_header": "X-User", "trusted_proxies": ["127.0.0.1"], "administrators": ["anna"]}
    )
    named = {"X-User": "anna", "X-Forwarded-Host": "console.example"}
    async with console_for(sources, store, auth, add=_add) as client:
        for headers, status in (
            ({}, 403),
            ({"Origin": "https://console.example"}, 200),
            ({"Origin": "http://console.example"}, 200),
            ({"Origin": "http://console.example", "X-Forwarded-Proto": "https"}, 403),
            ({"Origin": "https://console.example", "X-Forwarded-Proto": "https"}, 200),
            ({"Origin": "https://other.example"}, 403),
            ({"Origin": str(client.make_url("/"))}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
            ({"Sec-Fetch-Site": "same-origin"}, 200),
        ):
            assert (await change(client, named | headers))[0] == status, headers


async def test_anybody_who_looks_may_ask_by_a_form(client: Client, open_client: Client) -> None:
    await log_in(client, VIEWER)
    for each, by in ((client, VIEWER), (open_client, "")):
        data = aiohttp.FormData({"a": "b"})
        data.add_field("file", b"rules: []", filename="rules.yml")
        async with each.post("/ask", data=data) as response:
            assert await response.json() == {"by": by, "file": "rules: []", "a": "b"}


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("application/x-www-form-urlencoded", b"a=%ff%fe", 200),
        ("application/x-www-form-urlencoded; charset=nonsense", b"a=b", 400),
        ("application/x-www-form-urlencoded; charset=utf-16", b"a", 400),
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n\r\n--x--", 400),
        ("multipart/form-data; boundary=x", b"nothing", 400),
        ("application/x-www-form-urlencoded", b"a=" + b"x" * LARGEST_BODY, 413),
        ("application/x-www-form-urlencoded", b"a=b&" * 5_000, 413),
    ],
)
async def test_a_form_that_is_none_is_refused(open_client: Client, content_type: str, body: bytes, status: int) -> None:
    async with open_client.post("/ask", data=io.BytesIO(body), headers={"Content-Type": content_type}) as response:
        assert response.status == status


async def test_a_field_has_a_length(client: Client) -> None:
    await log_in(client)
    async with client.post("/change", data={"tag": "x" * 11}, headers=FROM_HERE) as response:
        assert response.status == 400
        assert "tag has at most 10 characters." in await response.text()
