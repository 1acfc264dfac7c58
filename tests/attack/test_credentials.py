"""Credentials and doors: what a stranger learns, leaves behind, or can have written in somebody else's name."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator

import jwt
import pytest
from multidict import CIMultiDict

from tests.attack.arena import EVIL, REPOSITORY, SECRET, Arena, arena, held, with_secret
from tests.support.between import Request, between
from tests.support.conversation import Answer, edge_over, image
from tests.support.wire import request, wire

V1 = held()["v1"]
USERS = {"alice": "secret", "release-bot": "secret", "mallory": SECRET}
PUT = f"/v2/{REPOSITORY}/manifests/v1"


def basic(text: str | bytes) -> str:
    raw = text if isinstance(text, bytes) else text.encode()
    return "Basic " + base64.b64encode(raw).decode()


@pytest.fixture(scope="module")
def closed() -> Iterator[Arena]:
    """A registry that asks everybody for a password."""
    rules = """
default: immutable
rules:
  - {name: moving-tags, tags: [latest, "dev-*"], policy: mutable}
  - name: of-the-bot
    tags: ["bot-*"]
    policy: immutable
    overwrite: [{users: [release-bot]}]
"""
    with arena(rules=rules, registry={"htpasswd": USERS}) as standing:
        standing.credentials = {"Authorization": basic("alice:secret")}
        asyncio.run(standing.prepare())
        yield standing
        asyncio.run(standing.aftermath())


STRANGERS: dict[str, list[tuple[str, str]]] = {
    "nobody": [],
    "empty": [("Authorization", "")],
    "scheme-alone": [("Authorization", "Basic")],
    "scheme-and-blank": [("Authorization", "Basic ")],
    "wrong-password": [("Authorization", basic(f"alice:{SECRET}"))],
    "no-password": [("Authorization", basic("alice:"))],
    "no-colon": [("Authorization", basic("alice"))],
    "no-user": [("Authorization", basic(f":{SECRET}"))],
    "unknown-user": [("Authorization", with_secret("trudy"))],
    "user-in-capitals": [("Authorization", basic("ALICE:secret"))],
    "user-with-a-null": [("Authorization", basic("alice\0:secret"))],
    "user-with-a-newline": [("Authorization", basic("alice\n:secret"))],
    "user-with-a-blank": [("Authorization", basic("alice :secret"))],
    "password-with-a-null": [("Authorization", basic("alice:secret\0"))],
    "password-of-9000-bytes": [("Authorization", basic("alice:" + SECRET * 470))],
    "no-base64": [("Authorization", f"Basic {SECRET}!!!")],
    "base64-for-urls": [("Authorization", "Basic " + base64.urlsafe_b64encode(b"alice:\xff\xfe\xfd" * 9).decode())],
    "base64-cut": [("Authorization", basic("alice:secret")[:-3])],
    "not-utf-8": [("Authorization", basic(b"\xff\xfe:" + SECRET.encode()))],
    "bearer-of-nothing": [("Authorization", "Bearer")],
    "bearer-opaque": [("Authorization", f"Bearer {SECRET}")],
    "bearer-unsigned": [("Authorization", "Bearer " + jwt.encode({"sub": "release-bot"}, "", algorithm="none"))],
    "bearer-of-nested-json": [("Authorization", f"Bearer x.{base64.b64encode(b'[' * 3000).decode()}.x")],
    "digest-scheme": [("Authorization", f'Digest username="alice", response="{SECRET}"')],
    "negotiate": [("Authorization", f"Negotiate {SECRET}")],
    "two-in-one": [("Authorization", f"{basic('alice:secret')}, {with_secret()}")],
    "credential-of-a-proxy": [("Proxy-Authorization", basic("alice:secret"))],
    "identity-headers": [("X-Forwarded-User", "alice"), ("X-Remote-User", "alice"), ("Remote-User", "alice")],
    "client-certificate-header": [("X-SSL-Client-Verify", "SUCCESS"), ("X-Client-Cert", SECRET)],
    "cookie": [("Cookie", f"session={SECRET}")],
    "from-loopback": [("X-Forwarded-For", "127.0.0.1"), ("X-Real-IP", "127.0.0.1")],
}


@pytest.mark.parametrize("name", STRANGERS)
async def test_a_stranger_hears_nothing_and_leaves_nothing(closed: Arena, name: str) -> None:
    before = closed.keys()
    events = len((await closed.api("events?limit=1000"))["events"])
    headers = [("Content-Type", EVIL.media_type), *STRANGERS[name]]
    mine = f"/v2/strangers/{name}/manifests/v1"
    for method, path in (("PUT", PUT), ("PUT", mine), ("DELETE", PUT), ("GET", PUT), ("HEAD", PUT)):
        answer = await closed.edge(request(method, path, headers, EVIL.body if method == "PUT" else None))
        assert answer.status in {400, 401}, (method, answer)
        said = repr((answer.headers, answer.body))
        assert V1.digest not in said
        assert "alice" not in said
        assert SECRET not in said
        if answer.status == 401:
            assert answer.header("WWW-Authenticate"), "the registry's challenge is missing"
    assert closed.keys() == before
    assert len((await closed.api("events?limit=1000"))["events"]) == events
    await closed.unharmed()


BROKEN: dict[str, bytes] = {
    "folded": b"Authorization: Basic\r\n " + SECRET.encode(),
    "control-byte": b"Authorization: Basic \x01" + SECRET.encode(),
    "null-byte": b"Authorization: Basic \0" + SECRET.encode(),
    "cr-alone": b"Authorization: Basic \r" + SECRET.encode(),
    "blank-before-colon": b"Authorization : Basic " + SECRET.encode(),
    "seventy-kilobytes": b"Authorization: Basic " + SECRET.encode() * 4000,
    "name-without-colon": b"Authorization Basic " + SECRET.encode(),
    "name-is-the-value": b"Basic " + SECRET.encode() + b": x",
    "cookie-folded": b"Cookie: session=\r\n " + SECRET.encode(),
    "cookie-control-byte": b"Cookie: session=\x02" + SECRET.encode(),
    "in-the-target": b"X: y\r\nAuthorization\t: " + SECRET.encode(),
}


@pytest.mark.parametrize("listener", ["edge", "console"])
@pytest.mark.parametrize("name", BROKEN)
async def test_a_malformed_credential_is_quoted_to_nobody(closed: Arena, name: str, listener: str) -> None:
    raw = b"GET /v2/ HTTP/1.1\r\nHost: edge:5000\r\n" + BROKEN[name] + b"\r\n\r\n"
    answer = await (closed.edge(raw) if listener == "edge" else closed.console(raw))
    assert 400 <= answer.status < 500
    assert SECRET[:8] not in answer.body.decode(errors="replace") + closed.fresh_log()


@pytest.mark.parametrize("listener", ["edge", "console"])
@pytest.mark.parametrize(
    "first", ["GET /v2/ HTTP/9.9", "GET  HTTP/1.1", "G@T /v2/?password={} HTTP/1.1", "{} / HTTP/1.1"]
)
async def test_a_malformed_request_line_is_quoted_to_nobody(closed: Arena, first: str, listener: str) -> None:
    line = first.format(SECRET) if "{}" in first else first
    raw = f"{line}\r\nHost: x\r\nAuthorization: Basic {SECRET}\r\n\r\n".encode()
    answer = await (closed.edge(raw) if listener == "edge" else closed.console(raw))
    assert 400 <= answer.status < 600
    assert SECRET[:8] not in answer.body.decode(errors="replace") + closed.fresh_log()


PRETENDERS = {
    "bot-as-second-credential": [("Authorization", basic("alice:secret")), ("Authorization", basic("release-bot:x"))],
    "bot-first": [("Authorization", basic("release-bot:x")), ("Authorization", basic("alice:secret"))],
    "bot-by-header": [("Authorization", basic("alice:secret")), ("X-Forwarded-User", "release-bot")],
    "bot-in-the-password": [("Authorization", basic("alice:secret")), ("X-Actor", "release-bot:secret")],
    "bot-by-agent": [("Authorization", basic("alice:secret")), ("User-Agent", "release-bot")],
    "bot-without-password": [("Authorization", basic("release-bot:"))],
    "bot-wrong-password": [("Authorization", basic(f"release-bot:{SECRET}"))],
    "bot-unsigned-token": [("Authorization", "Bearer " + jwt.encode({"sub": "release-bot"}, "", algorithm="none"))],
    "bot-by-connection-header": [("Authorization", basic("alice:secret")), ("Connection", "authorization")],
}


@pytest.mark.parametrize("name", PRETENDERS)
async def test_nobody_overwrites_in_the_name_of_somebody_else(closed: Arena, name: str) -> None:
    mine = image(f"what the bot pushed {name}")
    async with closed.client() as client:
        bot = client.as_user("release-bot")
        assert (await bot.push(REPOSITORY, f"bot-{name}", mine)).status == 201
    headers = [("Content-Type", EVIL.media_type), *PRETENDERS[name]]
    answer = await closed.edge(request("PUT", f"/v2/{REPOSITORY}/manifests/bot-{name}", headers, EVIL.body))
    assert answer.status in {400, 401, 409}, answer
    assert closed.storage.tag(REPOSITORY, f"bot-{name}") == mine.digest
    told = (await closed.api(f"events?repository={REPOSITORY}&tag=bot-{name}&outcome=refused"))["events"]
    assert all(event["actor"] != "release-bot" for event in told)
    await closed.unharmed()


async def test_a_permission_is_for_one_repository_and_one_credential(closed: Arena) -> None:
    async with closed.client() as client:
        assert (await client.push("prod/mine", "v1", image("mine"))).status == 201
    for headers in ([], [("Authorization", basic(f"alice:{SECRET}"))]):
        sent = [("Content-Type", EVIL.media_type), *headers]
        answer = await closed.edge(request("PUT", "/v2/prod/mine/manifests/v1", sent, EVIL.body))
        assert answer.status == 401
    await closed.unharmed()


ACTORS = {
    "markup": "<script>alert(1)</script>",
    "formula": "=HYPERLINK(1)",
    "newlines": "eve\r\nX-Injected: yes",
    "escape-codes": "eve\x1b[2J",
    "null": "eve\0admin",
    "right-to-left": "eve\u202etxt.exe",
    "very-long": "e" * 5000,
    "json": '","outcome":"created',
    "redis": "eve\r\n*1\r\n$8\r\nFLUSHALL\r\n",
    "blank": "   ",
}


@pytest.mark.parametrize("name", ACTORS)
async def test_a_name_is_text_and_nothing_else(target: Arena, name: str) -> None:
    """The open registry asks nobody, so anybody may call himself anything; it is told as unconfirmed."""
    actor = ACTORS[name]
    sent = [("Content-Type", EVIL.media_type), ("Authorization", basic(f"{actor}:{SECRET}"))]
    tag = f"named-{name}"
    answer = await target.edge(request("PUT", f"/v2/{REPOSITORY}/manifests/{tag}", sent, EVIL.body))
    assert answer.status == 201
    again = await target.edge(request("PUT", f"/v2/{REPOSITORY}/manifests/{tag}", [sent[0]], V1.body))
    assert again.status == 409
    assert "\n" not in again.error["message"]
    assert again.error["message"].isprintable()
    (event,) = (await target.api(f"events?tag={tag}&outcome=created"))["events"]
    assert event["actor"].isprintable()
    assert len(event["actor"]) <= 256
    assert event["actor_confirmed"] is False
    page = await target.console(request("GET", f"/audit?q=tag:{tag}"))
    assert b"<script>alert" not in page.body
    await target.unharmed()


def _door(name: str) -> bytes:
    pages = {
        "nginx": b"<html><head><title>400 Bad Request</title></head><body><hr><center>nginx</center></body></html>",
        "empty": b"",
        "json-of-another": json.dumps({"message": "bad request"}).encode(),
        "json-list": b"[]",
        "errors-empty": b'{"errors":[]}',
        "errors-of-text": b'{"errors":["MANIFEST_INVALID"]}',
        "other-code": b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}',
        "denied": b'{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}',
    }
    return pages[name]


DOORS = ["nginx", "empty", "json-of-another", "json-list", "errors-empty", "errors-of-text", "other-code", "denied"]


@pytest.mark.parametrize("door", DOORS)
async def test_a_400_of_a_door_lets_nobody_in(target: Arena, door: str) -> None:
    """A door in front of the registry answers a bad credential with a 400 of its own."""

    async def act(request: Request) -> Answer | None:
        if "Authorization" not in request.headers:
            return Answer(401, CIMultiDict([("WWW-Authenticate", 'Basic realm="door"')]), b"")
        return Answer(400, CIMultiDict([("Content-Type", "text/html")]), _door(door))

    async with between(target.registry.url, act) as front, edge_over(front.url, target.redis.url) as edge:
        client = edge.client.as_user("release-bot", "x" * 9000)
        answers = [await client.put(REPOSITORY, "v1", EVIL), await client.ask("DELETE", PUT)]
    assert [answer.status for answer in answers] == [503, 503]
    for answer in answers:
        assert V1.digest.encode() not in answer.body
    told = (await target.api(f"events?repository={REPOSITORY}&actor=release-bot"))["events"]
    assert not any(event["actor_confirmed"] for event in told)


UPGRADES = {
    "connect": b"CONNECT /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "websocket": b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
}


@pytest.mark.parametrize("listener", ["edge", "console"])
@pytest.mark.parametrize("way", UPGRADES)
async def test_what_follows_an_upgrade_that_was_not_granted_is_quoted_to_nobody(
    target: Arena, way: str, listener: str
) -> None:
    port = target.proxy.edge_port if listener == "edge" else target.proxy.console_port
    async with wire(port) as line:
        await line.send(UPGRADES[way] + f"Authorization: Basic {SECRET}\r\n\r\n".encode())
        async with asyncio.timeout(5):
            said = await line.reader.read()
    assert said.startswith(b"HTTP/1.1 ")
    assert SECRET not in said.decode(errors="replace") + target.fresh_log()
