"""Notifications: envelopes that anybody may send, and what they make the proxy do."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from typing import Any

import pytest

from tests.attack.arena import EVIL, REPOSITORY, SECRET, Arena, held
from tests.support.conversation import image
from tests.support.wire import WireAnswer, request

V1 = held()["v1"]
ENVELOPE = "application/vnd.docker.distribution.events.v2+json"


def event(action: Any = "push", **target: Any) -> dict[str, Any]:
    named = {"repository": REPOSITORY, "tag": "v1", "digest": EVIL.digest, "mediaType": EVIL.media_type}
    return {"id": "x", "action": action, "target": named | target, "request": {"host": "x"}, "actor": {"name": "eve"}}


def envelope(*events: Any) -> bytes:
    return json.dumps({"events": list(events)}).encode()


def post(body: bytes, *headers: tuple[str, str], path: str = "/notifications") -> bytes:
    return request("POST", path, [("Content-Type", ENVELOPE), *headers], body)


async def tell(arena: Arena, raw: bytes) -> WireAnswer:
    return await arena.console(raw)


NONE: dict[str, bytes] = {
    "nothing": b"",
    "no-json": b"events",
    "an-array": b"[]",
    "a-number": b"1",
    "null": b"null",
    "no-events": b"{}",
    "events-null": b'{"events":null}',
    "events-an-object": b'{"events":{"a":1}}',
    "events-a-text": b'{"events":"push"}',
    "nested": b'{"events":' + b"[" * 20_000,
    "nested-whole": b'{"events":' + b"[" * 10_000 + b"]" * 10_000,
    "not-utf-8": b'{"events":["\xff"]}',
    "cut": envelope(event())[:-3],
    "huge-number": b'{"events":' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("name", NONE)
async def test_what_is_no_envelope_is_refused(target: Arena, name: str) -> None:
    answer = await tell(target, post(NONE[name]))
    assert answer.status == 400, answer
    await target.unharmed()


HINTS: dict[str, bytes] = {
    "moved": envelope(event()),
    "deleted": envelope(event("delete", tag=None, digest=V1.digest)),
    "deleted-by-tag": envelope(event("delete")),
    "of-what-it-holds": envelope(event(digest=V1.digest)),
    "without-digest": envelope(event(digest=None)),
    "digest-of-nothing": envelope(event(digest="sha256:x")),
    "tag-unknown": envelope(event(tag="nobody")),
    "repository-unknown": envelope(event(repository="nobody/knows")),
    "repository-braces": envelope(event(repository="{audit}")),
    "repository-dots": envelope(event(repository="../../etc")),
    "repository-a-number": envelope(event(repository=7)),
    "repository-a-list": envelope(event(repository=["prod/app"])),
    "repository-newline": envelope(event(repository="prod/app\n")),
    "tag-newline": envelope(event(tag="v1\r\nX: y")),
    "tag-surrogate": b'{"events":[{"action":"push","target":{"repository":"prod/app","tag":"\\ud800"}}]}',
    "tag-null": envelope(event(tag="v1\0")),
    "tag-very-long": envelope(event(tag="v" * 100_000)),
    "target-a-text": envelope({"action": "push", "target": "prod/app:v1"}),
    "target-missing": envelope({"action": "push"}),
    "events-of-numbers": envelope(1, None, "x", []),
    "action-unknown": envelope(event("mount")),
    "action-a-list": envelope(event(["push"])),
    "action-an-object": envelope(event({"push": 1})),
    "pull": envelope(event("pull")),
    "same-often": envelope(*[event()] * 500),
    "keys-twice": b'{"events":[],"events":' + json.dumps([event()]).encode() + b"}",
    "url-elsewhere": envelope(event(url="http://evil.example/v2/prod/app/manifests/v1")),
    "foreign-host": envelope(event() | {"request": {"host": "evil.example", "addr": "10.0.0.1"}}),
    "secret-inside": envelope(event() | {"request": {"useragent": SECRET}, "actor": {"name": SECRET}}),
    "later": envelope(event() | {"timestamp": "9999-12-31T23:59:59Z"}),
}


@pytest.mark.parametrize("name", HINTS)
async def test_a_hint_is_never_the_truth(target: Arena, name: str) -> None:
    answer = await tell(target, post(HINTS[name]))
    assert answer.status == 202, answer
    assert not answer.body
    await target.unharmed()


async def test_false_hints_leave_nothing(target: Arena) -> None:
    before = target.keys()
    for hint in HINTS.values():
        await tell(target, post(hint))
    await asyncio.sleep(1.5)  # some of them are looked at by now
    assert target.keys() <= before  # the sweep may have put some away meanwhile
    assert not (await target.api(f"events?repository={REPOSITORY}&action=drift&tag=multi"))["events"]
    await target.unharmed()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_only_a_post_tells_something(target: Arena, method: str) -> None:
    answer = await tell(target, request(method, "/notifications", body=envelope(event())))
    assert answer.status == 405
    await target.unharmed()


async def test_the_edge_takes_no_notifications(target: Arena) -> None:
    for path in ("/notifications", "/v2/notifications"):
        answer = await target.edge(post(envelope(event()), path=path))
        assert answer.status in {404, 405}
    await target.unharmed()


async def test_an_envelope_of_two_mebibytes_is_not_read(target: Arena) -> None:
    answer = await tell(target, post(b" " * (2 * 1024 * 1024) + envelope(event())))
    assert answer.status == 413
    await target.unharmed()


async def test_a_compressed_envelope_is_not_blown_up(target: Arena) -> None:
    body = gzip.compress(b" " * 50_000_000)
    answer = await tell(target, post(body, ("Content-Encoding", "gzip")))
    assert 400 <= answer.status < 500, answer
    await target.unharmed()


async def test_a_true_hint_is_followed_and_the_tag_healed(target: Arena) -> None:
    """The tag is moved in the registry itself, and the only sign is a hint."""
    link = target.registry.storage / f"docker/registry/v2/repositories/{REPOSITORY}/_manifests/tags/v1/current/link"
    link.write_text(EVIL.digest)
    await tell(target, post(envelope(event())))
    ends = time.monotonic() + 10
    while link.read_text() != V1.digest and time.monotonic() < ends:
        await asyncio.sleep(0.05)
    told = (await target.api(f"events?repository={REPOSITORY}&action=drift"))["events"]
    assert told[0]["digest"] == EVIL.digest or told[0]["previous_digest"] == V1.digest
    await target.unharmed()


@pytest.mark.attack_long
@pytest.mark.timeout(180)
async def test_hints_on_many_tags_delay_nobody(target: Arena) -> None:
    repository = "hints/many"
    pushed = image("of many tags")
    async with target.client() as client:
        await client.blobs(repository, pushed)
        for number in range(300):
            assert (await client.put(repository, f"v{number}", pushed)).status == 201
    quiet = await _slowest(target)
    hints = [event("delete", repository=repository, tag=None, digest=f"sha256:{n:064x}") for n in range(3000)]
    await tell(target, post(envelope(*hints)))
    await asyncio.sleep(0.4)
    assert await _slowest(target) < 1.5 * quiet + 0.005


async def _slowest(target: Arena) -> float:
    """The median of 30 reads, in seconds."""
    took = []
    for _ in range(30):
        began = time.perf_counter()
        await target.reads_are_right()
        took.append(time.perf_counter() - began)
    return sorted(took)[15]
