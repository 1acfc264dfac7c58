"""Both listeners of a real `immuproxy serve`: broken heads that hold credentials, and more connections than files."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.proxies import ProxyServer, make_proxy, running_proxy
from tests.support.servers import RedisServer, RegistryServer, running

SECRET = b"Zm9vOnNlc2FtZQ"
BROKEN = {
    "folded": b"Authorization: Basic\r\n " + SECRET + b"\r\n",
    "a control byte": b"Authorization: Basic \x01" + SECRET + b"\r\n",
    "too long": b"Authorization: Basic " + SECRET * 5000 + b"\r\n",
    "a blank before the colon": b"Authorization : Basic " + SECRET + b"\r\n",
    "a cookie with a control byte": b"Cookie: __Host-immuproxy=" + SECRET + b"\x7f\x00\r\n",
    "a name that is none": SECRET + b"\x01: Basic\r\n",
    "no colon": b"Authorization Basic " + SECRET + b"\r\n",
    "in the length": b"Content-Length: " + SECRET + b"\r\n",
    "in the framing": b"Transfer-Encoding: " + SECRET + b"\r\n",
    "too many": b"".join(b"X-%d: %b\r\n" % (number, SECRET) for number in range(200)),
}
LINES = {
    "a target with a blank": b"GET /v2/ " + SECRET + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method that is none": SECRET + b" /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target that is no URL": b"GET http://[" + SECRET + b"/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a version that is none": b"GET /v2/ HTTP/" + SECRET + b"\r\nHost: x\r\n\r\n",
}
HEADS = {name: b"GET /v2/ HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n" for name, line in BROKEN.items()} | LINES


@pytest.fixture(scope="module")
def proxy(shared_registry: RegistryServer, shared_redis: RedisServer) -> Iterator[ProxyServer]:
    with running_proxy(shared_registry.url, {"url": shared_redis.url}) as server:
        yield server


def said_to(port: int, raw: bytes) -> bytes:
    """All that comes back on a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(raw)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := line.recv(65_536):
                received += piece
        return received


@pytest.mark.parametrize("listener", ["edge", "console"])
@pytest.mark.parametrize("name", HEADS)
def test_h84_no_byte_of_a_broken_head_is_logged_or_sent_back(proxy: ProxyServer, name: str, listener: str) -> None:
    port = proxy.edge_port if listener == "edge" else proxy.console_port
    answer = said_to(port, HEADS[name])
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head[8:13] == b" 400 "
    assert SECRET[:6] not in answer
    assert SECRET[:6].decode() not in proxy.log
    message = json.loads(body)["errors"][0]["message"] if listener == "edge" else json.loads(body)["error"]["message"]
    assert message.startswith("the request is no valid HTTP: ")
    told = json.loads([line for line in proxy.log.splitlines() if "request refused" in line][-1])
    assert (told["event"], told["reason"]) == ("request refused", message)
    assert (told["listener"], told["client"]) == (listener, "127.0.0.1")


def answers(port: int, path: str, seconds: float = 5.0) -> bool:
    """Whether a new connection is answered with 200 in time."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as line:
            line.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            if line.recv(12) == b"HTTP/1.1 200":
                return True
    return False


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process opens the connections, so it needs more files than the proxy."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("limits", ["1024:4096", "1024:1024"])
def test_h89_silent_connections_beyond_the_limit_of_files_keep_nobody_out(
    registry: RegistryServer, redis_server: RedisServer, tmp_path: Path, limits: str
) -> None:
    server = make_proxy(tmp_path, registry.url, {"url": redis_server.url})
    server.command = ["prlimit", f"--nofile={limits}", *server.command]
    with running(lambda _: server, tmp_path), contextlib.ExitStack() as stack:
        before = len(server.log)
        for port in (server.edge_port, server.console_port):
            for _ in range(1100):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        assert answers(server.edge_port, "/v2/")
        assert answers(server.console_port, "/readyz")
        assert len(server.log) - before < 10_000
