"""Framing: where one request ends and the next begins.  Every attack hides a push to a free tag in a body or a head;
were it carried out, the tag would exist in the registry's storage.
"""

from __future__ import annotations

import asyncio
import contextlib
from itertools import count

import pytest

from tests.attack.arena import EVIL, REPOSITORY, Arena
from tests.support.wire import WireAnswer, chunked, request, wire

V1 = f"/v2/{REPOSITORY}/manifests/v1"
HIDDEN = "hidden-00000"
"""The tag that nobody may set; each attack has one of its own."""

_numbers = count(1)

SMUGGLED = request("PUT", f"/v2/{REPOSITORY}/manifests/{HIDDEN}", [("Content-Type", EVIL.media_type)], EVIL.body)


def head(first: str, *lines: str | bytes, end: bytes = b"\r\n") -> bytes:
    sent = [first.encode("latin-1"), b"Host: edge:5000"]
    sent += [line if isinstance(line, bytes) else line.encode("latin-1") for line in lines]
    return end.join([*sent, b"", b""])


async def talk(arena: Arena, raw: bytes, *, hang_up: bool = False) -> list[WireAnswer]:
    """All answers until the connection ends, or nothing more comes for a moment."""
    answers: list[WireAnswer] = []
    async with wire(arena.proxy.edge_port) as line:
        await line.send(raw)
        if hang_up:
            line.writer.close()
        with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            while True:
                async with asyncio.timeout(0.2 if answers else 5.0):
                    answers.append(await line.answer("GET"))
    return answers


def hidden() -> str:
    return f"hidden-{next(_numbers):05}"


async def unharmed(arena: Arena, tag: str) -> None:
    assert tag not in arena.storage.tags(REPOSITORY), "the hidden request was carried out"
    await arena.unharmed()


GET = f"GET {V1} HTTP/1.1"
POST = f"POST /v2/{REPOSITORY}/blobs/uploads/ HTTP/1.1"
N = len(SMUGGLED)
EMPTY = chunked()

BODIES: dict[str, bytes] = {
    "length-then-chunked": head(POST, f"Content-Length: {N + 5}", "Transfer-Encoding: chunked") + EMPTY + SMUGGLED,
    "chunked-then-length": head(POST, "Transfer-Encoding: chunked", "Content-Length: 5") + EMPTY + SMUGGLED,
    "two-lengths": head(POST, "Content-Length: 0", f"Content-Length: {N}") + SMUGGLED,
    "list-of-lengths": head(POST, f"Content-Length: {N}, 0") + SMUGGLED,
    "length-with-plus": head(POST, f"Content-Length: +{N}") + SMUGGLED,
    "length-negative": head(POST, "Content-Length: -1") + SMUGGLED,
    "length-hexadecimal": head(POST, f"Content-Length: 0x{N:x}") + SMUGGLED,
    "length-with-underscore": head(POST, "Content-Length: 1_0") + SMUGGLED,
    "length-with-point": head(POST, f"Content-Length: {N}.0") + SMUGGLED,
    "length-empty": head(POST, "Content-Length:") + SMUGGLED,
    "length-huge": head(POST, f"Content-Length: {2**64 + N}") + SMUGGLED,
    "length-of-other-digits": head(POST, "Content-Length: \u0661".encode()) + SMUGGLED,
    "length-blank-before-colon": head(POST, f"Content-Length : {N}") + SMUGGLED,
    "length-folded": head(POST, "Content-Length:", f" {N}") + SMUGGLED,
    "length-after-a-null": head(POST, f"X: a\0\r\nContent-Length: {N}") + SMUGGLED,
    "coding-unknown": head(POST, "Transfer-Encoding: xchunked") + EMPTY + SMUGGLED,
    "coding-identity": head(POST, "Transfer-Encoding: identity") + SMUGGLED,
    "coding-chunked-first": head(POST, "Transfer-Encoding: chunked, identity") + EMPTY + SMUGGLED,
    "coding-gzip-last": head(POST, "Transfer-Encoding: chunked, gzip") + EMPTY + SMUGGLED,
    "coding-twice": head(POST, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + EMPTY + SMUGGLED,
    "coding-twice-in-one": head(POST, "Transfer-Encoding: chunked, chunked") + EMPTY + SMUGGLED,
    "coding-quoted": head(POST, 'Transfer-Encoding: "chunked"') + EMPTY + SMUGGLED,
    "coding-blank-before-colon": head(POST, "Transfer-Encoding : chunked") + EMPTY + SMUGGLED,
    "coding-folded": head(POST, "Transfer-Encoding:", "\tchunked") + EMPTY + SMUGGLED,
    "coding-vertical-tab": head(POST, "Transfer-Encoding: \x0bchunked") + EMPTY + SMUGGLED,
    "coding-high-byte": head(POST, "Transfer-Encoding: chunked\xa0") + EMPTY + SMUGGLED,
    "coding-null": head(POST, "Transfer-Encoding: chunked\0") + EMPTY + SMUGGLED,
    "coding-in-the-name": head(POST, "Transfer\x00-Encoding: chunked") + EMPTY + SMUGGLED,
    "coding-cr-alone": head(POST, "X: y\rTransfer-Encoding: chunked") + EMPTY + SMUGGLED,
    "coding-in-http-1.0": head(POST.replace("1.1", "1.0"), "Transfer-Encoding: chunked") + EMPTY + SMUGGLED,
    "chunk-size-with-0x": head(POST, "Transfer-Encoding: chunked") + b"0x5\r\nhello\r\n" + EMPTY + SMUGGLED,
    "chunk-size-signed": head(POST, "Transfer-Encoding: chunked") + b"+5\r\nhello\r\n" + EMPTY + SMUGGLED,
    "chunk-size-negative": head(POST, "Transfer-Encoding: chunked") + b"-1\r\n" + EMPTY + SMUGGLED,
    "chunk-size-underscore": head(POST, "Transfer-Encoding: chunked") + b"0_5\r\nhello\r\n" + EMPTY + SMUGGLED,
    "chunk-size-empty": head(POST, "Transfer-Encoding: chunked") + b"\r\n" + EMPTY + SMUGGLED,
    "chunk-size-blank-first": head(POST, "Transfer-Encoding: chunked") + b" 5\r\nhello\r\n" + EMPTY + SMUGGLED,
    "chunk-size-overflows": head(POST, "Transfer-Encoding: chunked") + b"f" * 17 + b"\r\nhello\r\n" + EMPTY + SMUGGLED,
    "chunk-without-its-end": head(POST, "Transfer-Encoding: chunked") + b"5\r\nhelloX\r\n" + EMPTY + SMUGGLED,
    "chunk-extension-with-newline": head(POST, "Transfer-Encoding: chunked") + b"5;a=\nhello\r\n" + EMPTY + SMUGGLED,
    "chunk-lines-end-with-lf": head(POST, "Transfer-Encoding: chunked") + b"5\nhello\n0\n\n" + SMUGGLED,
    "chunk-lines-end-with-cr": head(POST, "Transfer-Encoding: chunked") + b"5\rhello\r0\r\r" + SMUGGLED,
}


@pytest.mark.parametrize("name", BODIES)
async def test_what_is_framed_in_two_ways_is_not_carried_out(target: Arena, name: str) -> None:
    tag = hidden()
    answers = await talk(target, BODIES[name].replace(HIDDEN.encode(), tag.encode()))
    assert answers, "the connection was cut without a word"
    assert answers[0].status in {400, 413, 501}, answers[0]
    assert len(answers) == 1, "something was answered after it"
    await unharmed(target, tag)


HEADS: dict[str, bytes] = {
    "name-empty": head(GET, ": x"),
    "name-with-a-blank": head(GET, "X Y: z"),
    "name-with-a-null": head(GET, "X\0Y: z"),
    "name-with-a-bracket": head(GET, "X[]: z"),
    "name-with-a-high-byte": head(GET, "X\xe9: z"),
    "no-colon": head(GET, "nonsense"),
    "value-with-a-null": head(GET, "X: a\0b"),
    "value-with-a-bell": head(GET, "X: a\x07b"),
    "value-with-cr": head(GET, "X: a\rb"),
    "folded": head(GET, "X: a", " b"),
    "first-line-folded": head(GET + "\r\n X: y"),
    "method-empty": head(f" {V1} HTTP/1.1"),
    "method-with-a-null": head(f"GE\0T {V1} HTTP/1.1"),
    "method-with-a-bracket": head(f"G(T {V1} HTTP/1.1"),
    "method-very-long": head(f"{'G' * 70_000} {V1} HTTP/1.1"),
    "no-version": head(f"GET {V1}"),
    "version-0.9": head(f"GET {V1} HTTP/0.9"),
    "version-1.2": head(f"GET {V1} HTTP/1.2"),
    "version-2": head(f"GET {V1} HTTP/2.0"),
    "version-11": head(f"GET {V1} HTTP/11"),
    "version-of-another-protocol": head(f"GET {V1} ICY/1.1"),
    "version-in-small-letters": head(f"GET {V1} http/1.1"),
    "target-with-a-blank": head(f"GET {V1} x HTTP/1.1"),
    "target-with-a-tab": head(f"GET {V1}\tHTTP/1.1"),
    "target-empty": head("GET  HTTP/1.1"),
    "target-very-long": head(f"GET {V1}?{'x' * 70_000} HTTP/1.1"),
    "header-very-long": head(GET, f"X: {'x' * 70_000}"),
    "host-missing": f"{GET}\r\n\r\n".encode(),
    "host-empty": f"{GET}\r\nHost:\r\n\r\n".encode(),
    "host-twice": head(GET, "Host: other"),
    "host-with-a-path": f"{GET}\r\nHost: edge/v2\r\n\r\n".encode(),
    "host-with-a-user": f"{GET}\r\nHost: a@edge\r\n\r\n".encode(),
    "host-with-a-blank": f"{GET}\r\nHost: a b\r\n\r\n".encode(),
    "host-with-a-comma": f"{GET}\r\nHost: a,b\r\n\r\n".encode(),
    "host-of-markup": f"{GET}\r\nHost: <script>\r\n\r\n".encode(),
    "expectation-unknown": head(GET, "Expect: the-spanish-inquisition"),
    "preface-of-http-2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls": bytes.fromhex("16030100a5010000a10303") + b"\0" * 160 + b"\r\n\r\n",
    "socks": b"\x05\x01\x00\r\n\r\n",
    "redis": b"*1\r\n$8\r\nFLUSHALL\r\n\r\n",
    "smtp": b"EHLO edge\r\n\r\n",
    "json": b'{"action":"push"}\r\n\r\n',
    "proxy-protocol": b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + head(GET),
}


@pytest.mark.parametrize("name", HEADS)
async def test_a_head_that_is_none_is_answered_once_and_the_connection_ends(target: Arena, name: str) -> None:
    answers = await talk(target, HEADS[name] + SMUGGLED)
    assert answers, "the connection was cut without a word"
    # What follows a head that was read to its end is a request of its own, and may be one.
    assert answers[0].status in {400, 413, 414, 417, 431, 501, 505}, answers[0]
    assert answers[0].error["code"] == "UNSUPPORTED"
    assert "\0" not in answers[0].body.decode()
    target.storage_is_whole()
    target.log_is_clean()


FINE: dict[str, tuple[bytes, int]] = {
    "chunk-extensions": (head(POST, "Transfer-Encoding: chunked") + b'0;a="b";c\r\n\r\n', 202),
    "trailers": (head(POST, "Transfer-Encoding: chunked") + b"0\r\nAuthorization: Basic eDp5\r\nX: y\r\n\r\n", 202),
    "empty-lines-first": (b"\r\n\r\n" + head(GET, "Connection: close"), 200),
    "chunk-size-very-long": (head(POST, "Transfer-Encoding: chunked") + b"0" * 70_000 + b"\r\n\r\n", 202),
    "chunk-size-with-zeros": (head(POST, "Transfer-Encoding: chunked") + b"0000\r\n\r\n", 202),
    "coding-in-capitals": (head(POST, "Transfer-Encoding: CHUNKED") + EMPTY, 202),
    "body-of-a-get": (head(GET, f"Content-Length: {N}", "Connection: close") + SMUGGLED, 200),
    "upgrade-to-h2c": (
        head(GET, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
        200,
    ),
    "upgrade-to-websocket": (head(GET, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: eA=="), 200),
    "connection-names-host": (head(GET, "Connection: host, close"), 200),
    "connection-names-length": (head(GET, "Connection: content-length", "Content-Length: 0"), 200),
    "connection-names-ours": (head(GET, "Connection: x-forwarded-for, x-forwarded-proto"), 200),
    "many-headers": (head(GET, *(f"X-{n}: {n}" for n in range(120))), 200),
    "version-1.0": (head(GET.replace("1.1", "1.0")), 200),
}


@pytest.mark.parametrize("name", FINE)
async def test_what_is_odd_but_right_is_answered_as_what_it_is(target: Arena, name: str) -> None:
    raw, expected = FINE[name]
    sent = raw.replace(b"Host:", b"Accept: application/vnd.oci.image.manifest.v1+json\r\nHost:", 1)
    tag = hidden()
    answers = await talk(target, sent.replace(HIDDEN.encode(), tag.encode()))
    assert [answer.status for answer in answers] == [expected], answers
    await unharmed(target, tag)


async def test_what_is_hidden_in_a_body_that_nobody_reads_stays_there(target: Arena) -> None:
    tag = hidden()
    refused = head(f"PUT {V1} HTTP/1.1", f"Content-Type: {EVIL.media_type}", "Content-Encoding: gzip")
    raw = refused.replace(b"\r\n\r\n", f"\r\nContent-Length: {N}\r\n\r\n".encode()) + SMUGGLED.replace(
        HIDDEN.encode(), tag.encode()
    )
    answers = await talk(target, raw + request("GET", "/v2/"))
    assert [answer.status for answer in answers] == [415, 200]
    await unharmed(target, tag)


async def test_requests_sent_at_once_are_answered_in_their_order(target: Arena) -> None:
    evil = request("PUT", V1, [("Content-Type", EVIL.media_type)], EVIL.body)
    raw = b"".join([request("GET", "/v2/"), evil, request("DELETE", V1), request("GET", "/nowhere"), evil])
    assert [answer.status for answer in await talk(target, raw)] == [200, 409, 405, 404, 409]
    await target.unharmed()


@pytest.mark.parametrize("cut", [0.01, 0.3, 0.5, 0.8, 0.97, 0.999])
async def test_a_push_that_breaks_off_sets_nothing(target: Arena, cut: float) -> None:
    tag = hidden()
    assert await talk(target, SMUGGLED.replace(HIDDEN.encode(), tag.encode())[: int(N * cut)], hang_up=True) == []
    await unharmed(target, tag)


@pytest.mark.parametrize("ending", ["no-last-chunk", "half-a-chunk", "no-blank-line", "nonsense"])
async def test_a_chunked_push_without_an_end_sets_nothing(target: Arena, ending: str) -> None:
    whole = chunked(EVIL.body)
    body = {
        "no-last-chunk": whole.removesuffix(b"0\r\n\r\n"),
        "half-a-chunk": whole[: len(whole) // 2],
        "no-blank-line": whole.removesuffix(b"\r\n"),
        "nonsense": whole.removesuffix(b"0\r\n\r\n") + b"zzz\r\n\r\n",
    }[ending]
    tag = hidden()
    put = f"PUT /v2/{REPOSITORY}/manifests/{tag} HTTP/1.1"
    raw = head(put, f"Content-Type: {EVIL.media_type}", "Transfer-Encoding: chunked") + body
    answers = await talk(target, raw, hang_up=ending != "nonsense")
    assert [answer.status for answer in answers] == ([400] if ending == "nonsense" else [])
    await unharmed(target, tag)
