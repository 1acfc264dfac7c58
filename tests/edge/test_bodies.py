"""Request bodies: asked for when wanted, bounded, and put away when nobody wanted them."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from aiohttp import web
from multidict import CIMultiDict

from immuproxy.edge import answers, bodies
from immuproxy.edge.answers import Answer
from immuproxy.oci.errors import OciError
from tests.support.wire import Wire, ask, chunked, request, served, wire

LIMIT = 1000
EXPECT = ("Expect", "100-continue")
CHUNKED = ("Transfer-Encoding", "chunked")


async def echo(asked: web.BaseRequest) -> web.StreamResponse:
    """The body's length, or the error's status."""
    try:
        with bodies.Room().share() as take:
            body = await bodies.read_whole(asked, LIMIT, take)
        response = await answers.send(asked, Answer(200, CIMultiDict(), str(len(body)).encode()))
    except OciError as problem:
        response = await answers.send(asked, answers.error(problem))
    await bodies.finish(asked, response)
    return response


async def refuse(asked: web.BaseRequest) -> web.StreamResponse:
    """An answer that needs no body."""
    response = await answers.send(asked, Answer(401, CIMultiDict([("Www-Authenticate", "Basic")])))
    await bodies.finish(asked, response)
    return response


@pytest.mark.parametrize("size", [0, 1, LIMIT])
async def test_h18_a_body_up_to_the_limit_is_read(size: int) -> None:
    async with served(echo) as port:
        for raw in (
            request("PUT", "/", body=b"x" * size),
            request("PUT", "/", [CHUNKED], chunked(b"x" * size) if size else b"0\r\n\r\n"),
        ):
            assert (await ask(port, raw)).body == str(size).encode()


async def test_h18_one_byte_more_is_413_with_or_without_a_length() -> None:
    async with served(echo) as port:
        stated = request("PUT", "/", [("Content-Length", str(LIMIT + 1)), EXPECT])
        answer = await ask(port, stated)
        assert (answer.status, answer.interim, answer.error["code"]) == (413, [], "SIZE_INVALID")
        answer = await ask(port, request("PUT", "/", [CHUNKED], chunked(b"x" * LIMIT, b"x")))
        assert answer.status == 413


async def test_h41_a_client_that_waits_is_asked_once_and_only_when_the_body_is_wanted() -> None:
    async with served(echo) as port, wire(port) as line:
        await line.send(request("PUT", "/", [EXPECT, ("Content-Length", "4")]))
        assert await line.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await line.send(b"body")
        answer = await line.answer("PUT")
        assert (answer.status, answer.interim, answer.body) == (200, [], b"4")
        await line.send(request("PUT", "/", body=b"again"))
        assert (await line.answer("PUT")).body == b"5"


async def test_h41_a_refusal_comes_without_100_and_ends_the_connection() -> None:
    async with served(refuse) as port, wire(port) as line:
        await line.send(request("PUT", "/", [EXPECT, ("Content-Length", "4")]))
        answer = await line.answer("PUT")
        assert (answer.status, answer.interim, answer.header("Connection")) == (401, [], "close")
        assert await line.is_closed()


async def test_h41_a_body_that_is_there_already_needs_no_asking() -> None:
    async with served(echo) as port:
        answer = await ask(port, request("PUT", "/", [EXPECT], b"body"))
        assert answer.body == b"4"
        assert answer.interim in ([], [100])


async def test_h41_http_1_0_knows_no_100() -> None:
    async with served(echo) as port, wire(port) as line:
        await line.send(b"PUT / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await line.reader.read(1)
        await line.send(b"body")
        assert (await line.answer("PUT")).interim == []


@pytest.mark.parametrize(
    ("value", "fine"), [("100-continue", True), ("100-Continue", True), ("200-ok", False), ("", False)]
)
def test_h41_nothing_else_can_be_expected(value: str, fine: bool) -> None:
    from aiohttp.test_utils import make_mocked_request

    asked = make_mocked_request("PUT", "/", CIMultiDict([("Expect", value)]))
    if fine:
        bodies.check_expectation(asked)
    else:
        with pytest.raises(OciError) as caught:
            bodies.check_expectation(asked)
        assert caught.value.status == 417


async def test_h48_the_rest_of_a_small_body_is_read_and_the_connection_kept() -> None:
    async with served(refuse) as port, wire(port) as line:
        for _ in range(2):
            await line.send(request("PUT", "/", [("Content-Length", "8")]) + b"half")
            answer = await line.answer("PUT")
            assert (answer.status, answer.header("Connection")) == (401, None)
            await line.send(b"rest")


@pytest.mark.parametrize("framing", [("Content-Length", "64000000"), CHUNKED])
async def test_h48_an_early_answer_reaches_a_client_that_sends_all_first(framing: tuple[str, str]) -> None:
    piece = b"x" * 1_000_000
    async with served(refuse) as port, wire(port) as line:
        await line.send(request("PUT", "/", [framing]))
        for _ in range(64):
            await line.send(chunked(piece).removesuffix(b"0\r\n\r\n") if framing is CHUNKED else piece)
        answer = await line.answer("PUT")
        assert (answer.status, answer.header("Connection")) == (401, "close")
        assert await line.is_closed()


async def test_h48_an_early_answer_is_known_to_be_over_at_once() -> None:
    async with served(refuse) as port, wire(port) as line:
        started = time.monotonic()
        await line.send(request("PUT", "/", [("Content-Length", "64000000")]))
        assert (await line.answer("PUT")).status == 401
        assert await line.is_closed()
        assert time.monotonic() - started < 2


async def test_h48_the_rest_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "LINGER_IDLE", 0.1)
    ended = asyncio.Event()

    async def handle(asked: web.BaseRequest) -> web.StreamResponse:
        response = await refuse(asked)
        ended.set()
        return response

    async with served(handle) as port, wire(port) as line:
        await line.send(request("PUT", "/", [("Content-Length", "64000000")]))
        async with asyncio.timeout(3):
            await ended.wait()


async def test_h45_a_body_that_stops_coming_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "IDLE", 0.1)
    async with served(echo) as port:
        answer = await ask(port, request("PUT", "/", [("Content-Length", "4")]) + b"b")
        assert answer.status == 408
        assert answer.error["message"] == "the request's body stopped coming"


async def test_h45_a_body_that_only_dribbles_is_given_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "WHOLE", 0.3)
    async with served(echo) as port, wire(port) as line:

        async def dribble() -> None:
            await line.send(request("PUT", "/", [("Content-Length", "900")]))
            while True:
                await line.send(b"x")
                await asyncio.sleep(0.02)

        dribbling = asyncio.create_task(dribble())
        answer = await line.answer("PUT")
        dribbling.cancel()
        assert answer.error["message"] == "the request's body took too long"


@pytest.mark.parametrize("head_start", [0, 500])
async def test_h87_a_body_that_stalls_or_comes_too_slowly_is_given_up_soon(
    monkeypatch: pytest.MonkeyPatch, head_start: int
) -> None:
    """However much of it came fast before."""
    monkeypatch.setattr(bodies, "PATIENCE", 0.2)
    monkeypatch.setattr(bodies, "LEAST", 1000)
    async with served(echo) as port:
        for rest in (b"", b"x"):

            async def dribble(line: Wire, rest: bytes = rest) -> None:
                await line.send(request("PUT", "/", [("Content-Length", "900")]) + b"x" * head_start)
                while True:
                    await line.send(rest)
                    await asyncio.sleep(0.02)

            async with wire(port) as line:
                began = time.monotonic()
                dribbling = asyncio.create_task(dribble(line))
                answer = await line.answer("PUT")
                dribbling.cancel()
                assert (answer.status, answer.error["message"]) == (408, "the request's body took too long")
                assert time.monotonic() - began < 2


async def test_h87_a_body_at_a_fair_rate_may_take_longer_than_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "PATIENCE", 0.3)
    monkeypatch.setattr(bodies, "LEAST", 400)
    async with served(echo) as port, wire(port) as line:
        await line.send(request("PUT", "/", [("Content-Length", "900")]))
        for _ in range(9):
            await line.send(b"x" * 100)
            await asyncio.sleep(0.06)
        assert (await line.answer("PUT")).status == 200


def test_h87_large_bodies_leave_room_for_small_ones() -> None:
    room = bodies.Room(8 * 1024 * 1024)
    with contextlib.ExitStack() as stack:
        large = [stack.enter_context(room.share()) for _ in range(2)]
        for take in large:
            take(bodies.FIRST)
        large[0](7 * 1024 * 1024)
        for take in large:
            with pytest.raises(OciError) as caught:
                take(1)
            assert caught.value.status == 503
        for _ in range(14):
            stack.enter_context(room.share())(bodies.FIRST)
        with pytest.raises(OciError):
            stack.enter_context(room.share())(1)
    with room.share() as again:
        again(8 * 1024 * 1024 - 15 * bodies.FIRST)


async def test_h50_a_broken_chunk_is_the_clients_fault() -> None:
    async with served(echo) as port:
        answer = await ask(port, request("PUT", "/", [CHUNKED]) + b"4\r\nbody\r\nzz\r\n")
        assert answer.status == 400
        assert answer.error["code"] == "UNSUPPORTED"


def test_h51_what_is_kept_at_a_time_is_bounded() -> None:
    room = bodies.Room(10)
    with room.share() as first, room.share() as second:
        first(6)
        second(4)
        with pytest.raises(OciError) as caught:
            first(1)
        assert caught.value.status == 503
    with room.share() as third:
        third(10)


async def test_h51_what_a_body_took_is_given_back() -> None:
    room = bodies.Room(LIMIT)

    async def keep(asked: web.BaseRequest) -> web.StreamResponse:
        try:
            with room.share() as take:
                await bodies.read_whole(asked, LIMIT, take)
            response = await answers.send(asked, Answer(200, CIMultiDict()))
        except OciError as problem:
            response = await answers.send(asked, answers.error(problem))
        return response

    async with served(keep) as port:
        async with wire(port) as line:  # announced, half sent, never finished
            await line.send(request("PUT", "/", [("Content-Length", str(LIMIT))]) + b"x" * (LIMIT // 2))
            await asyncio.sleep(0.05)
            assert (await ask(port, request("PUT", "/", body=b"x" * LIMIT))).status == 503
            assert (await ask(port, request("PUT", "/", body=b"x" * (LIMIT // 2)))).status == 200
        await asyncio.sleep(0.05)
        assert (await ask(port, request("PUT", "/", body=b"x" * LIMIT))).status == 200
