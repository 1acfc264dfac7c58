"""Clients that differ in everything the audit tells of: who, from where, with what; each request is noted as it was.

Here nothing is judged.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from tests.auditor.recording import OPEN, Content, Flaw, Moment, Request, Sender
from tests.support.conversation import Answer, Image, sha256

PASSWORD = "secret"
USERS = {"ci": PASSWORD, "release-bot": PASSWORD, "jo@example.com": PASSWORD, "=cmd": PASSWORD}
SERVICE = "immuproxy"
ACCOUNTS = {**USERS, SERVICE: PASSWORD}

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
FRONT = "127.0.0.9"
"""The address of a proxy in front, whose word on addresses counts."""

PROGRAMS = ("docker/27.3.1 go/go1.22", "skopeo/1.14", "containers/5.29", "@buildkit (linux)", "crane/0.20", "Müller's")

LARGEST = 4 * 1024 * 1024
PATIENCE = 20.0


def now() -> Moment:
    return Moment(time.monotonic(), time.time())


def content_of(image: Image, media_type: str = "") -> Content:
    """What the audit is to say of an image or an index that was sent."""
    document = json.loads(image.body)
    listed = document.get("manifests", [])
    described = [*document.get("layers", []), *([document["config"]] if "config" in document else []), *listed]
    platforms = [f"{each['platform']['os']}/{each['platform']['architecture']}" for each in listed]
    size = len(image.body) + sum(each["size"] for each in described)
    told = tuple(platforms) or _own_platform(image)
    return Content(image.digest, media_type or image.media_type, size, told, by_config=not platforms)


def _own_platform(image: Image) -> tuple[str, ...]:
    config = json.loads(image.blobs[0])
    return (f"{config['os']}/{config['architecture']}",)


@dataclass(frozen=True)
class Draft:
    """A request before somebody sends it: `path` below the repository, and what is wrong with it on purpose."""

    method: str
    kind: str
    repository: str
    reference: str
    tags: tuple[str, ...] = ()
    query: str = ""
    body: bytes = b""
    content: Content | None = None
    flaw: Flaw = Flaw.NONE

    @property
    def path(self) -> str:
        return f"/v2/{self.repository}/{self.kind}/{self.reference}{self.query}"


@dataclass(frozen=True)
class Senders:
    """A session for each address that requests come from."""

    sessions: Mapping[str, aiohttp.ClientSession]
    random: random.Random

    def somebody(self, flaw: Flaw) -> tuple[Sender, str, dict[str, str]]:
        """A sender, the address that it connects from, and the headers that make it known."""
        user = self.random.choice([*USERS])
        host = self.random.choice([*self.sessions])
        headers = {"X-Request-Id": f"{self.random.getrandbits(64):016x}"}  # theirs; ours has another
        address = host
        if self.random.random() < 0.4 or host == FRONT:
            named = f"203.0.113.{self.random.randint(1, 9)}"
            headers["X-Forwarded-For"] = self.random.choice([named, f"{named}:4711", f"10.9.8.7, {named}"])
            address = named if host == FRONT else host
        if flaw is not Flaw.STRANGER:
            headers["Authorization"] = basic(user, PASSWORD)
            return Sender(user, "basic", confirmed=True, address=address), host, headers
        if self.random.random() < 0.5:
            headers["Authorization"] = basic(user, "wrong")
            return Sender(user, "basic", confirmed=False, address=address), host, headers
        return Sender("", "anonymous", confirmed=False, address=address), host, headers

    async def send(self, draft: Draft, url: str, proxy: int, name: str, patience: float) -> Request:
        """Send it, and note everything."""
        sender, host, headers = self.somebody(draft.flaw)
        headers["User-Agent"] = name
        began = now()
        answer = await self._answer(draft, url, host, headers, patience)
        return Request(
            name=name,
            method=draft.method,
            kind=draft.kind,
            repository=draft.repository,
            reference=draft.reference,
            tags=draft.tags,
            sender=sender,
            proxy=proxy,
            began=began,
            ended=now(),
            status=answer.status if answer else OPEN,
            flaw=draft.flaw,
            content=draft.content,
            request_id=answer.headers.get("X-Request-Id", "") if answer else "",
            error=_error(answer),
        )

    async def _answer(
        self, draft: Draft, url: str, host: str, headers: dict[str, str], patience: float
    ) -> Answer | None:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError, EOFError, ValueError):
            async with asyncio.timeout(patience):
                if draft.flaw in {Flaw.BROKEN, Flaw.LENGTH}:
                    return await by_hand(draft, url, host, headers)
                return await self._asked(draft, url, host, headers)
        await asyncio.sleep(0.05)  # where nobody listens, that is known at once
        return None

    async def _asked(self, draft: Draft, url: str, host: str, headers: dict[str, str]) -> Answer:
        data: Any = draft.body or None
        if draft.method == "PUT":
            headers["Content-Type"] = draft.content.media_type if draft.content else "text/plain"
        if draft.flaw is Flaw.CODING:
            headers["Content-Encoding"] = "gzip"
        if draft.flaw is Flaw.LARGE:
            data = _in_pieces()
        async with self.sessions[host].request(
            draft.method,
            URL(url + draft.path, encoded=True),
            data=data,
            headers=headers,
            allow_redirects=False,
            compress=None,
        ) as response:
            return Answer(response.status, CIMultiDict(response.headers), await response.read())


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


async def _in_pieces() -> AsyncIterator[bytes]:
    piece = b" " * 65536
    for _ in range(LARGEST // len(piece) + 1):
        yield piece


async def by_hand(draft: Draft, url: str, host: str, headers: Mapping[str, str]) -> Answer:
    """What no client library would send."""
    parts = URL(url)
    reader, writer = await asyncio.open_connection(parts.host, parts.port, local_addr=(host, 0))
    try:
        announced = draft.flaw is Flaw.LENGTH
        framing = (
            f"Content-Length: {LARGEST + 1}" if announced else "Transfer-Encoding: chunked\r\nExpect: 100-continue"
        )
        kept = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"PUT {draft.path} HTTP/1.1\r\nHost: {parts.authority}\r\n{kept}{framing}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        lines = await _head(reader)
        if " 100 " in lines[0]:  # it has been let in, and is asked for its body
            writer.write(b"no chunk\r\n\r\n")
            lines = await _head(reader)
        received = CIMultiDict(
            (name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:]) if name
        )
        body = await reader.readexactly(int(received.get("Content-Length", "0")))
        return Answer(int(lines[0].split()[1]), received, body)
    finally:
        writer.close()


async def _head(reader: asyncio.StreamReader) -> list[str]:
    return (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")


def _error(answer: Answer | None) -> Mapping[str, Any]:
    if answer is None or answer.status < 400:
        return {}
    with contextlib.suppress(ValueError, LookupError, TypeError):
        return answer.error
    return {}


@contextlib.asynccontextmanager
async def senders(seed: int) -> AsyncIterator[Senders]:
    async with AsyncExitStack() as stack:
        sessions: dict[str, aiohttp.ClientSession] = {}
        for host in (*HOSTS, FRONT):
            connector = aiohttp.TCPConnector(limit=0, local_addr=(host, 0))
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, auto_decompress=False))
            session._retry_connection = False  # a request that is sent twice would be two under one name (H43)
            sessions[host] = session
        yield Senders(sessions, random.Random(seed))


def flawed(draft: Draft, flaw: Flaw) -> Draft:
    """The same request with something wrong."""
    content, body = draft.content, draft.body
    match flaw:
        case Flaw.EMPTY:
            body = b""
        case Flaw.TYPE if content:
            content = replace(content, media_type="text/plain", size=len(body), platforms=())
        case Flaw.SYNTAX if content:
            body = body[:-1]
            content = Content(sha256(body), content.media_type, len(body))
    return replace(draft, flaw=flaw, body=body, content=content)


def to_tags(repository: str, image: Image, tags: Sequence[str]) -> Draft:
    """A push by digest to tags."""
    query = "?" + "&".join(f"tag={tag}" for tag in tags) if tags else ""
    return Draft("PUT", "manifests", repository, image.digest, tuple(tags), query, image.body, content_of(image))


def to_tag(repository: str, image: Image, tag: str) -> Draft:
    return Draft("PUT", "manifests", repository, tag, (tag,), "", image.body, content_of(image))
