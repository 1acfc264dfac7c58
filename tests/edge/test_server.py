"""The listener: what is no HTTP, faults of our own, and the parser that it stands on."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys

import pytest
from aiohttp import http, http_parser, web

from immuproxy.edge import server
from immuproxy.edge.answers import Response
from tests.support.wire import ask, request, served, wire


async def fail(asked: web.BaseRequest) -> web.StreamResponse:
    raise LookupError("the password is secret")


async def fail_half_way(asked: web.BaseRequest) -> web.StreamResponse:
    response = Response(headers={"Content-Length": "10"})
    await response.prepare(asked)
    await response.write(b"half")
    raise LookupError


async def test_a_fault_of_our_own_is_an_error_of_the_specification(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        async with served(fail) as port:
            answer = await ask(port, request("GET", "/v2/"))
    assert answer.status == 500
    assert answer.error["code"] == "UNKNOWN"
    assert "secret" not in answer.body.decode()
    assert answer.header("Connection") == "close"
    assert answer.header("Server") is None
    assert "the password is secret" in caplog.text


async def test_a_fault_after_the_first_byte_adds_no_second_answer() -> None:
    async with served(fail_half_way) as port, wire(port) as line:
        await line.send(request("GET", "/v2/"))
        answer = await line.answer()
        assert (answer.body, answer.whole) == (b"half", False)


async def test_what_is_no_http_is_told_so_in_one_line() -> None:
    async with served(fail) as port, wire(port) as line:
        await line.send(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        answer = await line.answer()
        assert answer.status == 400
        assert answer.error["message"].startswith("the request is no valid HTTP: ")
        assert "\n" not in answer.error["message"]
        assert await line.is_closed()


async def test_h47_a_client_that_hangs_up_does_not_cancel_its_handler() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def slow(asked: web.BaseRequest) -> web.StreamResponse:
        started.set()
        while asked.transport is not None:  # None once the connection is lost
            await asyncio.sleep(0)
        ended.set()
        return Response()

    async with served(slow) as port:
        async with wire(port) as line:
            await line.send(request("GET", "/v2/"))
            await started.wait()
        async with asyncio.timeout(2):
            await ended.wait()


def test_h50_the_parser_in_c_is_in_use_here() -> None:
    server.require_c_parser()


@pytest.mark.parametrize(("module", "name"), [(http, "HttpRequestParser"), (http_parser, "HttpResponseParser")])
def test_h50_another_parser_is_refused(module: object, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, name, getattr(http_parser, f"{name}Py"))
    with pytest.raises(server.UnsafeParserError, match="C extension"):
        server.require_c_parser()


def test_h50_no_listener_is_made_on_the_parser_in_python() -> None:
    code = "import immuproxy.edge.server as s\ntry: s.EdgeServer(None)\nexcept s.UnsafeParserError as e: print(e)"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "AIOHTTP_NO_EXTENSIONS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.startswith("aiohttp runs without its C extension")
